"""Memory for batches that is reused once its batch is no longer referenced.

A fresh batch of several megabytes costs more in page faults than in arithmetic. A caller may keep a batch, or a part of
it, as long as it likes: the memory counts as free only when the last tensor that shares it is gone. That shows in the
reference count of the NumPy array that owns the memory, because every such tensor holds a reference to it.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor

from distsae.store.buffers import page_aligned

__all__ = ["ReusedMemory"]


class ReusedMemory:
    """Returns fp32 tensors of one shape, in reused memory.

    Args:
        shape: shape of the tensors.
        kept: number of memory areas that are kept for reuse; a caller that holds more tensors gets fresh memory.
    """

    def __init__(self, shape: tuple[int, ...], kept: int) -> None:
        self._shape, self._kept = shape, kept
        self._memory: list[np.ndarray] = []

    def tensor(self) -> Tensor:
        """Returns a tensor with arbitrary content, whose memory is shared with no other tensor in use."""
        for index in range(len(self._memory)):
            if sys.getrefcount(self._memory[index]) == _UNUSED:
                return torch.from_numpy(self._memory[index])
        memory = _fresh_memory(self._shape)
        if len(self._memory) < self._kept:
            self._memory.append(memory)
        return torch.from_numpy(memory)


def _fresh_memory(shape: tuple[int, ...]) -> np.ndarray:
    return page_aligned(4 * int(np.prod(shape))).view(np.float32).reshape(shape)


_UNUSED = next(sys.getrefcount(memory[0]) for memory in [[_fresh_memory((1,))]])
"""Reference count of an array that only a list refers to, read in the same way as in `ReusedMemory.tensor`."""
