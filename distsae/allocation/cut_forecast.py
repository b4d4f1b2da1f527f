"""Forecast of the next cut of Mutual Choice: a lower bound for collecting candidates, an interval for counting them."""

from __future__ import annotations

import torch

__all__ = ["ALL_BITS", "CutForecast", "bits_of", "score_of"]

ALL_BITS = 1 << 31
"""Upper end, exclusive, of the bit patterns of non-negative fp32 numbers."""

_REACH = 0.1
"""Distance from the last cut within which the next one is expected, as a share of the last; fresh batches of real
activations move it far less."""


def bits_of(score: float) -> int:
    """Returns the bit pattern of a non-negative fp32 score; patterns are ordered as the scores are."""
    return int(torch.tensor(score, dtype=torch.float32).view(torch.int32))


def score_of(bits: int) -> float:
    """Returns the fp32 score with this bit pattern."""
    return float(torch.tensor(bits, dtype=torch.int32).view(torch.float32))


class CutForecast:
    """Expects the next cut near the last one.

    A forecast decides only how many candidates are held and how finely they are counted. A wrong one costs another
    pass over the encoder, or one more collective, and changes no selection.

    Attributes:
        cut: cut of the last batch, near which the next one is expected; None without a forecast.
    """

    def __init__(self) -> None:
        self.cut: float | None = None

    @property
    def lower(self) -> float:
        """Lower bound, an fp32 number: scores below it need not be held. It is 0 without a forecast."""
        return score_of(bits_of((1 - _REACH) * self.cut)) if self.cut is not None else 0.0

    def interval(self) -> tuple[int, int]:
        """Returns the bit patterns `[low, high)` in which the cut is expected; all patterns without a forecast."""
        if self.cut is None:
            return 0, ALL_BITS
        return bits_of(self.lower), bits_of((1 + _REACH) * self.cut) + 1

    def learn(self, cut: float | None) -> None:
        """Takes over the cut of a batch; None, for a batch without a cut, ends the forecast."""
        self.cut = cut
