"""Ranks that are threads of one process, for collectives that need no torch group: thousands of cases a second."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import torch
from torch import Tensor

from distsae.collective import Collective

__all__ = ["on_threads"]

_Found = TypeVar("_Found")


class _ThreadedRank:
    """One thread's view of the ranks, as a `Collective`."""

    def __init__(self, rank: int, given: list[Tensor], barrier: Barrier) -> None:
        self.rank = rank
        self.size = len(given)
        self._given = given
        self._barrier = barrier

    def sum(self, tensor: Tensor) -> Tensor:
        return self.stack(tensor).sum(0)

    def max(self, tensor: Tensor) -> Tensor:
        return self.stack(tensor).amax(0)

    def stack(self, tensor: Tensor) -> Tensor:
        return torch.stack(self.gather(tensor))

    def gather(self, tensor: Tensor) -> list[Tensor]:
        self._given[self.rank] = tensor.clone()
        self._barrier.wait(60)
        found = list(self._given)
        self._barrier.wait(60)
        return found


def on_threads(size: int, work: Callable[[Collective], _Found]) -> list[_Found]:
    """Calls `work` on every rank, each in a thread of its own, and returns the results in rank order."""
    given, barrier = [torch.empty(0)] * size, Barrier(size)

    def call(rank: int) -> _Found:
        try:
            return work(_ThreadedRank(rank, given, barrier))
        except BaseException:
            barrier.abort()  # the others would wait for this one
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(call, range(size)))
