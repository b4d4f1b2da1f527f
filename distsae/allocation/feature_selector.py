"""Feature Choice on any mesh: feature `j` keeps its `m_j` largest positive scores over the tokens.

A chunk of the encoder holds whole columns, so each rank picks its top `m_j` at once and the feature axis need not
meet. Data ranks hold other tokens of the same features: they gather their picks, which contain the global ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation.matches import Matches
from distsae.allocation.segments import just_below, largest_per_segment, true_indices
from distsae.allocation.selector import Place, non_finite, refuse_non_finite

__all__ = ["FeatureSelector"]

_SAFETY = 0.8
"""A feature's next lower bound as a share of its last cut; a feature with too few candidates is read whole."""


class FeatureSelector:
    """Selects `quotas[j]` largest positive scores of each local feature `j` (arXiv 2411.02124, Feature Choice).

    Args:
        d_sae_local: features on this rank.
    """

    def __init__(self, d_sae_local: int) -> None:
        self.cut: float | None = None  # a rule per feature has no single cut; see `cuts`
        self.shortfall = 0  # matches the last batch lacked
        self.cuts = torch.full(
            (d_sae_local,), float("nan")
        )  # smallest selected score by feature, last batch; nan: none
        self._quotas = torch.zeros(d_sae_local, dtype=torch.long)
        self._bounds = torch.zeros(d_sae_local)

    def grant(self, quotas: Tensor) -> None:
        """Sets the whole matches of each local feature in the next global batch, int64 `[d_sae_local]`."""
        self._quotas = quotas
        self._bounds, self.cuts = self._bounds.to(quotas.device), self.cuts.to(quotas.device)

    def begin(self, place: Place, tokens: int) -> None:
        """Starts a batch of `tokens` local tokens."""
        self._place, self._tokens, self._bad = place, tokens, 0
        self._picked: list[Matches] = []

    def offer(self, first_feature: int, pre_acts: Tensor) -> None:
        """Picks each feature's largest scores among the pre-activations `[features, tokens]`."""
        self._bad += non_finite(pre_acts)
        rows = slice(first_feature, first_feature + pre_acts.shape[0])
        quotas, bounds = self._quotas[rows], self._bounds[rows]
        mask = pre_acts > just_below(bounds).masked_fill(quotas == 0, torch.inf)[:, None]
        flat = true_indices(mask)
        held = torch.bincount(flat // self._tokens, minlength=quotas.numel())
        poor = ((held < quotas) & (bounds > 0)).nonzero().squeeze(1)
        if poor.numel():
            mask[poor] = pre_acts[poor] > 0
            flat = true_indices(mask)
        feature = flat // self._tokens
        token, score = flat - feature * self._tokens, pre_acts.reshape(-1)[flat]
        keep = largest_per_segment(feature, score, quotas)
        self._picked.append(Matches(token[keep], feature[keep] + first_feature, score[keep]))

    def settle(self) -> Matches:
        """Settles each feature's cut over the data ranks and returns this rank's matches."""
        place = self._place
        token = torch.cat([matches.token for matches in self._picked])
        feature = torch.cat([matches.feature for matches in self._picked])
        score = torch.cat([matches.score for matches in self._picked])
        counts = torch.stack(place.world.gather(torch.tensor([[self._bad]], device=score.device)))[:, 0, 0]
        refuse_non_finite(counts, place)
        if place.data.size > 1:
            features = torch.cat(place.data.gather(feature))
            scores = torch.cat(place.data.gather(score))
            sizes = [int(n) for n in place.data.gather(torch.tensor([score.numel()], device=score.device))]
            picked = largest_per_segment(features, scores, self._quotas)
            self._remember(features[picked], scores[picked])
            start = sum(sizes[: place.data.rank])
            mine = picked[(picked >= start) & (picked < start + score.numel())] - start
            token, feature, score = token[mine], feature[mine], score[mine]
        else:
            self._remember(feature, score)
        found = place.world.sum(torch.tensor([score.numel()], device=score.device))
        granted = place.feature.sum(self._quotas.sum().reshape(1))
        self.shortfall = int(granted) - int(found)
        return Matches(token, feature, score)

    def _remember(self, feature: Tensor, score: Tensor) -> None:
        cuts = score.new_full(self.cuts.shape, float("inf")).scatter_reduce(0, feature, score, "amin")
        selected = cuts.isfinite()
        self.cuts = torch.where(selected, cuts, torch.nan)
        # With several data ranks this bounds the local pick from a global cut; `offer` reads poor features whole.
        self._bounds = torch.where(selected, _SAFETY * cuts, self._bounds)
