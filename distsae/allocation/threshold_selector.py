"""The frozen rule: a feature fires where its score is positive and exceeds its threshold.

The rule needs no batch. Each pair is decided alone, so ranks exchange no scores.
"""

from __future__ import annotations

from torch import Tensor

from distsae.allocation.matches import Matches
from distsae.allocation.scores import Scores, feature_and_token
from distsae.allocation.selector import Placement, as_count, refuse_non_finite

__all__ = ["ThresholdSelector"]


class ThresholdSelector:
    """Selects every positive score above its feature's threshold.

    Args:
        threshold: threshold of each local feature, exclusive, `[d_sae_local]`, on the scores' device. A threshold below
            zero counts as zero; a feature with an infinite one never fires.
    """

    def __init__(self, threshold: Tensor) -> None:
        self._threshold = threshold.clamp(min=0)[:, None]

    def start(self, placement: Placement, tokens: int) -> None:
        """Starts a batch of `tokens` local tokens."""
        self._placement = placement
        self._tokens = tokens
        self._non_finite: int | Tensor = 0
        self._selected: list[Matches] = []

    def offer(self, first_feature: int, scores: Scores) -> None:
        """Keeps the scores above their thresholds."""
        self._non_finite += scores.non_finite()
        threshold = self._threshold[first_feature : first_feature + scores.shape[0]]
        flat, score = scores.above(threshold)
        feature, token = feature_and_token(flat, self._tokens)
        fires = score > threshold.squeeze(1)[feature]  # `above` takes scores at the bound, too
        self._selected.append(Matches(token, feature + first_feature, score).picked(fires))

    def tally(self) -> None:
        """Returns None: matches are found as chunks come."""

    def resolve(self, told: Tensor) -> Matches:
        """Returns this rank's matches; collective, for the count of scores that are not finite."""
        counts = self._placement.world.stack(as_count(self._non_finite, self._threshold.device)).squeeze(1)
        refuse_non_finite(counts)
        return Matches.joined(self._selected)
