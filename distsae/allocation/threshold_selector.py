"""The frozen rule: a feature fires where its score is positive and exceeds its threshold.

It needs no batch: each pair is decided alone, so no rank has to hear of another's scores.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation.matches import Matches
from distsae.allocation.scores import Scores
from distsae.allocation.selector import Placement, refuse_non_finite

__all__ = ["ThresholdSelector"]


class ThresholdSelector:
    """Selects every score above its feature's threshold.

    Args:
        threshold: smallest score that fires, exclusive, `[d_sae_local]`, on the scores' device; one below zero counts
            as zero, an infinite one never fires.
    """

    def __init__(self, threshold: Tensor) -> None:
        self._threshold = threshold.clamp(min=0)[:, None]

    def start(self, placement: Placement, tokens: int) -> None:
        """Starts a batch of `tokens` local tokens."""
        self._placement = placement
        self._tokens = tokens
        self._bad = 0
        self._found: list[Matches] = []

    def offer(self, first_feature: int, scores: Scores) -> None:
        """Keeps what fires."""
        self._bad += scores.non_finite()
        threshold = self._threshold[first_feature : first_feature + scores.shape[0]]
        flat, score = scores.above(threshold)
        feature = flat // max(self._tokens, 1)
        fires = score > threshold.squeeze(1)[feature]  # a threshold is exclusive
        flat = flat[fires]
        feature = feature[fires]
        score = score[fires]
        self._found.append(Matches(flat - feature * self._tokens, feature + first_feature, score))

    def resolve(self) -> Matches:
        """Returns this rank's matches; one number a rank is exchanged, for the scores that are not finite."""
        refuse_non_finite(self._placement.world.stack(torch.tensor(self._bad, device=self._threshold.device)))
        return Matches(
            torch.cat([matches.token for matches in self._found]),
            torch.cat([matches.feature for matches in self._found]),
            torch.cat([matches.score for matches in self._found]),
        )
