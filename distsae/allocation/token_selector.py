"""Token Choice on any mesh: each token keeps its `k` largest positive scores (TopK, the baseline).

Every token's lower bound is the k-th largest score seen so far on this rank. Feature ranks then gather each token's
candidates; data ranks hold other tokens and need not meet.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation.matches import Matches
from distsae.allocation.segments import just_below, largest_per_segment, true_indices
from distsae.allocation.selector import Place, non_finite, refuse_non_finite

__all__ = ["TokenSelector"]


class TokenSelector:
    """Selects each token's `k` largest positive scores over all feature ranks.

    Args:
        k: matches per token.
    """

    def __init__(self, k: int) -> None:
        self.k = k
        self.cut: float | None = None  # a rule per token has no single cut
        self.shortfall = 0  # matches the last batch lacked

    def begin(self, place: Place, tokens: int) -> None:
        """Starts a batch of `tokens` local tokens."""
        self._place, self._tokens, self._bad = place, tokens, 0
        self._lower: Tensor | None = None  # [tokens]
        self._token: list[Tensor] = []
        self._feature: list[Tensor] = []
        self._score: list[Tensor] = []
        self._held = 0

    def offer(self, first_feature: int, pre_acts: Tensor) -> None:
        """Keeps each token's candidates among the pre-activations `[features, tokens]`."""
        self._bad += non_finite(pre_acts)
        if self._lower is None and pre_acts.shape[0] >= self.k:
            kth = pre_acts.t().topk(self.k, dim=1, sorted=False).values.amin(1)
            self._lower = kth
        flat = true_indices(pre_acts > (0 if self._lower is None else just_below(self._lower)))
        feature = flat // self._tokens
        self._token.append(flat - feature * self._tokens)
        self._feature.append(feature + first_feature)
        self._score.append(pre_acts.reshape(-1)[flat])
        self._held += flat.numel()
        if self._held > 2 * self.k * self._tokens:
            self._trim()

    def settle(self) -> Matches:
        """Settles each token's cut over the feature ranks and returns this rank's matches."""
        place = self._place
        self._trim()
        token, feature, score = self._token[0], self._feature[0], self._score[0]
        counts = torch.stack(place.world.gather(torch.tensor([[self._bad]], device=score.device)))[:, 0, 0]
        refuse_non_finite(counts, place)
        if place.feature.size > 1:
            tokens = torch.cat(place.feature.gather(token))
            scores = torch.cat(place.feature.gather(score))
            sizes = [int(n) for n in place.feature.gather(torch.tensor([score.numel()], device=score.device))]
            picked = largest_per_segment(tokens, scores, self._quotas(score.device))
            start = sum(sizes[: place.feature.rank])
            mine = picked[(picked >= start) & (picked < start + score.numel())] - start
            token, feature, score = token[mine], feature[mine], score[mine]
        found = place.world.sum(torch.tensor([score.numel()], device=score.device))
        self.shortfall = self.k * self._tokens * place.data.size - int(found)
        return Matches(token, feature, score).by_feature()

    def _trim(self) -> None:
        """Drops what this rank alone shows to be outside a token's `k` largest; exact with ties."""
        token, feature, score = torch.cat(self._token), torch.cat(self._feature), torch.cat(self._score)
        keep = largest_per_segment(token, score, self._quotas(score.device))
        self._token, self._feature, self._score = [token[keep]], [feature[keep]], [score[keep]]
        self._held = keep.numel()
        if self._lower is not None:
            full = torch.bincount(self._token[0], minlength=self._tokens) == self.k
            least = torch.full_like(self._lower, torch.inf).scatter_reduce(0, self._token[0], self._score[0], "amin")
            self._lower = torch.where(full, torch.maximum(self._lower, least), self._lower)

    def _quotas(self, device: torch.device) -> Tensor:
        return torch.full((self._tokens,), self.k, device=device)
