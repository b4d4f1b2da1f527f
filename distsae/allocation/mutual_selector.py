"""Mutual Choice on any mesh: the batch keeps its `k * tokens` largest positive scores, wherever they are.

Each rank keeps the candidates above a lower bound: a share of the last batch's cut, raised while candidates stream
in. Two collectives then find the exact global cut: the counts, and an all-gather of the candidates' scores. If the
candidates prove fewer than the budget, the bound was too high and the batch is offered again without one. Equal
scores at the cut take a third collective, which settles them by the smallest (token, feature).
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation.matches import Matches
from distsae.allocation.segments import true_indices
from distsae.allocation.selector import Place, non_finite, refuse_non_finite

__all__ = ["MutualSelector"]

_SAFETY = 0.9
"""The next lower bound as a share of the last cut; fresh batches of real activations move the cut far less."""


class MutualSelector:
    """Selects the `k * tokens` largest positive scores of the global batch (arXiv 2411.02124, Mutual Choice).

    Args:
        k: mean matches per token; need not be whole.
        allowed: local features that may be selected, bool `[d_sae_local]`; None allows all. The auxiliary loss
            selects among underutilised features this way.
    """

    def __init__(self, k: float, allowed: Tensor | None = None) -> None:
        self.k, self.allowed = k, allowed
        self.cut: float | None = None  # smallest selected score of the last batch; None if it fell short
        self.shortfall = 0  # matches the last batch lacked
        self.second_passes = 0
        self._bound = 0.0

    def begin(self, place: Place, tokens: int) -> None:
        """Starts a batch of `tokens` local tokens."""
        self._place, self._tokens = place, tokens
        self._budget = round(self.k * tokens * place.data.size)
        self._lower = self._bound
        self._scores: list[Tensor] = []
        self._keys: list[Tensor] = []  # local feature * tokens + local token: ascending as chunks come
        self._held = self._bad = 0

    def offer(self, first_feature: int, pre_acts: Tensor) -> None:
        """Keeps what exceeds the lower bound of the pre-activations `[features, tokens]`."""
        self._device, self._dtype = pre_acts.device, pre_acts.dtype  # of every rank, also of one without candidates
        rows = None
        if self.allowed is not None:
            rows = self.allowed[first_feature : first_feature + pre_acts.shape[0]].nonzero().squeeze(1)
            pre_acts = pre_acts[rows]
        if not pre_acts.numel():
            return
        self._bad += non_finite(pre_acts)
        mask = pre_acts >= self._lower if self._lower > 0 else pre_acts > 0
        flat = true_indices(mask)
        self._scores.append(pre_acts.reshape(-1)[flat])
        feature = flat // self._tokens
        token = flat - feature * self._tokens
        feature = (feature if rows is None else rows[feature]) + first_feature
        self._keys.append(feature * self._tokens + token)
        self._held += flat.numel()
        if self._held > 2 * self._budget:
            self._trim()

    def settle(self) -> Matches | None:
        """Finds the exact global cut and returns this rank's matches, or None if the bound was too high."""
        place = self._place
        if self._held > self._budget:
            self._trim()
        device = self._device
        scores = torch.cat(self._scores) if self._scores else torch.zeros(0, dtype=self._dtype, device=device)
        keys = torch.cat(self._keys) if self._keys else torch.zeros(0, dtype=torch.long, device=device)
        counts = torch.stack(place.world.gather(torch.tensor([[self._held, self._bad]], device=device)))[:, 0]
        refuse_non_finite(counts[:, 1], place)
        total = int(counts[:, 0].sum())
        if total < self._budget and self._bound > 0:
            self._bound = 0.0
            self.second_passes += 1
            return None
        self.shortfall = max(self._budget - total, 0)
        if total > self._budget:
            everyone = torch.cat(place.world.gather(scores))
            cut = everyone.topk(self._budget, sorted=False).values.min() if self._budget else everyone.max() + 1
            keep = scores > cut
            ties_left = self._budget - int((everyone > cut).sum())
            tied = int((everyone == cut).sum())
            keep |= (scores == cut) & (self._earliest_ties(scores, keys, cut, ties_left) if tied > ties_left else True)
            scores, keys = scores[keep], keys[keep]
            self.cut = float(cut) if self._budget else None
        else:
            least = scores.min() if scores.numel() else scores.new_tensor(float("inf"))
            lowest = -float(place.world.max(-least.reshape(1)))
            self.cut = lowest if total and not self.shortfall else None
        self._bound = _SAFETY * self.cut if self.cut is not None else 0.0
        feature = keys // max(self._tokens, 1)
        return Matches(keys - feature * self._tokens, feature, scores)

    def _trim(self) -> None:
        """Drops candidates that this rank alone shows to be outside the budget, and raises the lower bound.

        Exact with ties: what is kept is the local `budget` largest in the order (score, token, feature).
        """
        scores, keys = torch.cat(self._scores), torch.cat(self._keys)
        if scores.numel() > self._budget:
            cut = scores.topk(self._budget, sorted=False).values.min() if self._budget else scores.max() + 1
            above = scores > cut
            ties = (scores == cut).nonzero().squeeze(1)
            room = self._budget - int(above.sum())
            above[ties[self._tie_order(keys[ties]).argsort()[:room]]] = True
            scores, keys = scores[above], keys[above]
            self._lower = max(self._lower, float(cut))
        self._scores, self._keys, self._held = [scores], [keys], scores.numel()

    def _earliest_ties(self, scores: Tensor, keys: Tensor, cut: Tensor, room: int) -> Tensor:
        """Marks the candidates at the cut that are among the `room` earliest of all ranks by (token, feature)."""
        mine = (scores == cut).nonzero().squeeze(1)
        order = self._tie_order(keys[mine])
        others = torch.cat(self._place.world.gather(order))
        last = others.sort().values[room - 1] if room else torch.tensor(-1, device=keys.device)
        marks = torch.zeros_like(scores, dtype=torch.bool)
        marks[mine[order <= last]] = True
        return marks

    def _tie_order(self, keys: Tensor) -> Tensor:
        feature = keys // self._tokens
        token = keys - feature * self._tokens + self._place.first_token
        return token * self._place.d_sae + feature + self._place.first_feature
