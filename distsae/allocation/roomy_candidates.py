"""Candidates in a fixed number of places, for a device that the CPU need not wait for.

To keep the candidates of a chunk and nothing else, one must know how many there are: the CPU waits until the device has
counted them, chunk after chunk. Here every chunk gets a fixed number of places instead, a little more than the chunks
of the last batches filled. Empty places have the score 0. A chunk that fills all of them may have had more candidates;
the batch is then offered again, with more places.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation.scores import EMPTY, Scores

__all__ = ["PLACES_PER_MATCH", "Places", "RoomyCandidates"]

PLACES_PER_MATCH = 32
"""Most places, of all chunks together, for each match of the budget. Scores that the prefilter cannot rule out take
places as well: by an estimate 12 for each match where a tenth below the cut is kept."""

_SLACK = 1.25
_SPARE = 64
_SHRINK = 0.9
_GROWTH = 4
_PAUSE = 64


class Places:
    """The number of places for the candidates of a chunk: learnt from batch to batch, and limited by the budget.

    Attributes:
        number: places in the next batch; 0 if none are to be used.
    """

    def __init__(self) -> None:
        self.number = 0
        self._pause = 0  # batches that go without places, because too many were needed

    def learn(self, filled: int) -> None:
        """Takes over the most places that a chunk of a batch filled, or would have filled."""
        self._pause = max(self._pause - 1, 0)
        if not self._pause:
            self.number = max(int(_SLACK * filled) + _SPARE, int(_SHRINK * self.number))

    def grow(self, chunks: int, budget: int) -> None:
        """Provides for a batch whose candidates did not fit.

        Args:
            chunks: number of chunks of a batch.
            budget: number of matches of a batch.
        """
        self.number *= _GROWTH
        if self.number * chunks > PLACES_PER_MATCH * budget + _GROWTH * _SPARE * chunks:
            self.number, self._pause = 0, _PAUSE


class RoomyCandidates:
    """The candidates of a pass over a batch, in a fixed number of places for each chunk.

    Args:
        tokens: number of tokens on this rank.
    """

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._scores: list[Tensor] = []
        self._keys: list[Tensor] = []

    @property
    def places(self) -> list[int]:
        """Number of places of each chunk that was collected."""
        return [keys.numel() for keys in self._keys]

    def collect(self, first_feature: int, scores: Scores, cutoff: Tensor, bound: Tensor, places: int) -> None:
        """Collects the scores of a chunk that reach a bound.

        Args:
            first_feature: local index of the first feature of the chunk. Chunks come in ascending order.
            scores: scores of the chunk.
            cutoff: as in `Scores.within`.
            bound: as in `Scores.within`.
            places: number of places for them.
        """
        flat, score = scores.within(cutoff, bound, places)
        self._scores.append(score)
        self._keys.append(flat + first_feature * self._tokens)

    def joined(self) -> tuple[Tensor, Tensor]:
        """Returns scores, 0 in empty places, and keys `feature * tokens + token`, ascending where scores are not 0."""
        return torch.cat(self._scores), torch.cat(self._keys)

    def full(self) -> Tensor:
        """Returns the number of chunks that filled all their places, int64 `[1]`."""
        return (torch.stack([keys[-1] for keys in self._keys]) < EMPTY).sum()[None]

    def filled(self) -> Tensor:
        """Returns the number of places that each chunk filled, int64 `[chunks]`. If it filled all, it may lack some."""
        if len(set(self.places)) == 1:
            return (torch.stack(self._keys) < EMPTY).sum(1)
        return torch.stack([(keys < EMPTY).sum() for keys in self._keys])
