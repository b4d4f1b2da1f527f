"""Where the next cut of Mutual Choice is expected: a lower bound for collecting, an interval for counting."""

from __future__ import annotations

import torch

__all__ = ["ALL_BITS", "CutForecast", "bits_of", "score_of"]

ALL_BITS = 1 << 31
"""One more than the bits of any non-negative fp32 number."""

_REACH = 0.1
"""How far the next cut may lie from the last, as a share of it; fresh batches of real activations move it far less."""


def bits_of(score: float) -> int:
    """Returns the bits of a non-negative fp32 score; their order is that of the scores."""
    return int(torch.tensor(score, dtype=torch.float32).view(torch.int32))


def score_of(bits: int) -> float:
    """Returns the fp32 score that has these bits."""
    return float(torch.tensor(bits, dtype=torch.int32).view(torch.float32))


class CutForecast:
    """Expects the next cut near the last one.

    A forecast decides only how much is held and how finely it is counted; a wrong one costs another pass over the
    encoder, or one more collective.

    Attributes:
        cut: that the next one is expected near; None without a forecast.
    """

    def __init__(self) -> None:
        self.cut: float | None = None

    @property
    def lower(self) -> float:
        """Scores under this bound, an fp32 number, need not be held; 0 without a forecast."""
        return score_of(bits_of((1 - _REACH) * self.cut)) if self.cut is not None else 0.0

    def interval(self) -> tuple[int, int]:
        """Returns the bits `[low, high)` of the scores among which the cut is expected; all without a forecast."""
        if self.cut is None:
            return 0, ALL_BITS
        return bits_of(self.lower), bits_of((1 + _REACH) * self.cut) + 1

    def learn(self, cut: float | None) -> None:
        """Takes the cut of the batch; None if there was none, which forgets the last one too."""
        self.cut = cut
