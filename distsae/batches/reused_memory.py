"""Memory for batches that is used again once nobody holds the batch that was in it.

A fresh batch of megabytes costs more in page faults than in arithmetic. Callers may keep a batch, or a part of one, as
long as they like: its memory counts as free only when the last tensor that shares it is gone. That is known from the
reference count of the NumPy array underneath, which every such tensor keeps alive.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor

from distsae.store.buffers import page_aligned

__all__ = ["ReusedMemory"]


class ReusedMemory:
    """Gives out fp32 tensors of one shape.

    Args:
        shape: of the tensors.
        kept: most pieces of memory that are kept for later; a caller that holds more tensors gets fresh memory.
    """

    def __init__(self, shape: tuple[int, ...], kept: int) -> None:
        self._shape, self._kept = shape, kept
        self._memory: list[np.ndarray] = []

    def tensor(self) -> Tensor:
        """Returns a tensor with arbitrary content, whose memory no other living tensor shares."""
        for index in range(len(self._memory)):
            if sys.getrefcount(self._memory[index]) == _UNUSED:
                return torch.from_numpy(self._memory[index])
        memory = _memory(self._shape)
        if len(self._memory) < self._kept:
            self._memory.append(memory)
        return torch.from_numpy(memory)


def _memory(shape: tuple[int, ...]) -> np.ndarray:
    return page_aligned(4 * int(np.prod(shape))).view(np.float32).reshape(shape)


_UNUSED = next(sys.getrefcount(memory[0]) for memory in [[_memory((1,))]])
"""References to an array that only a list holds, counted in the same way."""
