"""Ranks that are threads of this process, for meshes of more ranks than processes are affordable."""

from __future__ import annotations

from threading import Barrier

import torch
from torch import Tensor

__all__ = ["ThreadRank", "Threads"]


class Threads:
    """What the threads of a group share: a barrier, and one tensor for each."""

    def __init__(self, size: int) -> None:
        self.barrier = Barrier(size, timeout=300)
        self.tensors = [torch.zeros(0)] * size


class ThreadRank:
    """The collective of one thread; the ranks of the group are threads of this process."""

    def __init__(self, threads: Threads, rank: int) -> None:
        self._threads = threads
        self.rank = rank
        self.size = len(threads.tensors)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        self._threads.tensors[self.rank] = tensor.clone()
        self._threads.barrier.wait()
        found = list(self._threads.tensors)
        self._threads.barrier.wait()
        return found

    def stack(self, tensor: Tensor) -> Tensor:
        return torch.stack(self.gather(tensor))

    def sum(self, tensor: Tensor) -> Tensor:
        return self.stack(tensor).sum(0).to(tensor.dtype)

    def max(self, tensor: Tensor) -> Tensor:
        return self.stack(tensor).amax(0)
