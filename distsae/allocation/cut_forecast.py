"""Forecast of the next cut of Mutual Choice: a lower bound for collecting candidates, an interval for counting them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

__all__ = ["ALL_BITS", "CutForecast", "bits_of", "score_of"]

ALL_BITS = 1 << 31
"""Upper end, exclusive, of the bit patterns of non-negative fp32 numbers."""

_WIDEST = 0.1
"""Most that the next cut is expected to move from the last, as a share of the last; the first cuts of a run need it."""

_NARROWEST = 0.02
"""Least that it is expected to move. Batches of 2048 rows of real activations move the cut by 0.007 on average."""

_MOVES = 3
"""The next cut is expected to move up to this many times as far as the largest recent move."""

_REMEMBERED = 0.8
"""Share of the largest recent move that the next batch still remembers."""


def bits_of(score: float) -> int:
    """Returns the bit pattern of a non-negative fp32 score; patterns are ordered as the scores are."""
    return int(torch.tensor(score, dtype=torch.float32).view(torch.int32))


def score_of(bits: int) -> float:
    """Returns the fp32 score with this bit pattern."""
    return float(torch.tensor(bits, dtype=torch.int32).view(torch.float32))


class CutForecast:
    """Expects the next cut near the last one, the nearer the less the cut has moved of late.

    A forecast decides only how many candidates are held and how finely they are counted. A wrong one costs another
    pass over the encoder, or one more collective, and changes no selection.

    Attributes:
        cut: cut of the last batch, near which the next one is expected; None without a forecast.
        move: largest recent move of the cut, as a share of the cut.
    """

    def __init__(self) -> None:
        self.cut: float | None = None
        self.move = _WIDEST

    @property
    def reach(self) -> float:
        """Distance from the last cut within which the next one is expected, as a share of the last."""
        return min(max(_MOVES * self.move, _NARROWEST), _WIDEST)

    @property
    def lower(self) -> float:
        """Lower bound, an fp32 number: scores below it need not be held. It is 0 without a forecast."""
        return score_of(bits_of((1 - self.reach) * self.cut)) if self.cut is not None else 0.0

    def interval(self) -> tuple[int, int]:
        """Returns the bit patterns `[low, high)` in which the cut is expected; all patterns without a forecast."""
        if self.cut is None:
            return 0, ALL_BITS
        return bits_of(self.lower), bits_of((1 + self.reach) * self.cut) + 1

    def learn(self, cut: float | None) -> None:
        """Takes over the cut of a batch; None, for a batch without a cut, ends the forecast."""
        if cut is None or self.cut is None:
            self.move = _WIDEST
        else:
            self.move = min(max(abs(cut / self.cut - 1), _REMEMBERED * self.move), _WIDEST)
        self.cut = cut

    def state(self) -> dict[str, float | None]:
        """Returns what `restore` needs."""
        return {"cut": self.cut} if self.cut is None else {"cut": self.cut, "move": self.move}

    def restore(self, state: Mapping[str, float | None]) -> None:
        """Takes over the state of another forecast; what is missing or no positive number is not known."""
        cut, move = (state.get(name) for name in ("cut", "move"))
        self.learn(None)
        self.learn(cut if cut is not None and 0 < cut < math.inf else None)
        self.move = move if move is not None and 0 <= move < _WIDEST else _WIDEST
