"""Where the next cut of Mutual Choice is expected: a lower bound for collecting, and a narrow band for exchanging."""

from __future__ import annotations

import math
from collections import deque

import torch

__all__ = ["CutForecast", "bits_of", "score_of"]

_SAFETY = 0.9
"""The lower bound as a share of the last cut; fresh batches of real activations move the cut far less."""

_REMEMBERED = 8
_MARGIN = 1.5
_FIRST_WIDTH = 0.02
_NARROWEST, _WIDEST = 1e-3, 0.1


def bits_of(score: float) -> int:
    """Returns the bits of a non-negative fp32 score; their order is that of the scores."""
    return int(torch.tensor(score, dtype=torch.float32).view(torch.int32))


def score_of(bits: int) -> float:
    """Returns the fp32 score that has these bits."""
    return float(torch.tensor(bits, dtype=torch.int32).view(torch.float32))


class CutForecast:
    """Expects the next cut near the last one, about as far away as the cuts of late have moved.

    A forecast decides only how much is held and sent; a wrong one costs another pass or another exchange.
    """

    def __init__(self) -> None:
        self._cut: float | None = None
        self._moves: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def lower(self) -> float:
        """Scores under this bound need not be held; 0 without a forecast.

        Rounded down to a bf16 number, so that a comparison means the same for scores of every dtype.
        """
        return score_of(bits_of(_SAFETY * self._cut) & ~0xFFFF) if self._cut is not None else 0.0

    def band(self) -> tuple[int, int]:
        """Returns the bits `[low, high)` of the scores among which the cut is expected; empty without a forecast."""
        if self._cut is None:
            return 0, 0
        width = min(max(_MARGIN * max(self._moves, default=_FIRST_WIDTH), _NARROWEST), _WIDEST)
        return bits_of(self._cut * (1 - width)), bits_of(self._cut * (1 + width)) + 1

    def learn(self, cut: float | None) -> None:
        """Takes the cut of the batch; None if there was none, which forgets everything."""
        if cut is None:
            self._moves.clear()
        elif self._cut is not None:
            self._moves.append(abs(math.log(cut / self._cut)))
        self._cut = cut
