"""The frozen rule: a feature fires where its score is positive and exceeds its threshold.

It needs no batch: each pair is decided alone, so no rank has to hear of another's scores.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation.matches import Matches
from distsae.allocation.segments import true_indices
from distsae.allocation.selector import Place, non_finite, refuse_non_finite, taken

__all__ = ["ThresholdSelector"]


class ThresholdSelector:
    """Selects every score above its feature's threshold.

    Args:
        threshold: smallest score that fires, exclusive, `[d_sae_local]`, on the scores' device; one below zero counts
            as zero, an infinite one never fires.
    """

    def __init__(self, threshold: Tensor) -> None:
        self._threshold = threshold.clamp(min=0)[:, None]

    def begin(self, place: Place, tokens: int) -> None:
        """Starts a batch of `tokens` local tokens."""
        self._place, self._tokens, self._bad = place, tokens, 0
        self._found: list[Matches] = []

    def offer(self, first_feature: int, pre_acts: Tensor) -> None:
        """Keeps what fires of the pre-activations `[features, tokens]`."""
        self._bad += non_finite(pre_acts)
        flat = true_indices(pre_acts > self._threshold[first_feature : first_feature + pre_acts.shape[0]])
        feature = flat // max(self._tokens, 1)
        self._found.append(Matches(flat - feature * self._tokens, feature + first_feature, taken(pre_acts, flat)))

    def settle(self) -> Matches:
        """Returns this rank's matches; one number a rank is exchanged, for the scores that are not finite."""
        refuse_non_finite(self._place.world.stack(torch.tensor(self._bad, device=self._threshold.device)))
        return Matches(
            torch.cat([matches.token for matches in self._found]),
            torch.cat([matches.feature for matches in self._found]),
            torch.cat([matches.score for matches in self._found]),
        )
