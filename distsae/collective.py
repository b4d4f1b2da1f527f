"""The collective operations that the mathematics needs.

`allocation` and `losses` reach other processes only through this interface. So the paper's mathematics runs in a
notebook with `Solo`, where it is proved; `distsae.parallel` implements the interface on a torch process group.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["Collective", "Solo"]


class Collective(Protocol):
    """A group of ranks: those along one axis of the mesh, or all of them."""

    @property
    def rank(self) -> int:
        """Index of this process in the group, `0 <= rank < size`."""
        ...

    @property
    def size(self) -> int:
        """Number of processes in the group."""
        ...

    def sum(self, tensor: Tensor) -> Tensor:
        """Returns the elementwise sum over the group, equal on every rank; `tensor` may be overwritten."""
        ...

    def max(self, tensor: Tensor) -> Tensor:
        """Returns the elementwise maximum over the group, equal on every rank; `tensor` may be overwritten."""
        ...

    def stack(self, tensor: Tensor) -> Tensor:
        """Returns the tensors of all ranks, which have one shape, `[size, *tensor.shape]` in rank order."""
        ...

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Returns the tensors of all ranks in rank order; only their first dimensions may differ."""
        ...


class Solo:
    """The group of one process, in which every collective is the identity."""

    rank = 0
    size = 1

    def sum(self, tensor: Tensor) -> Tensor:
        """Returns `tensor`."""
        return tensor

    def max(self, tensor: Tensor) -> Tensor:
        """Returns `tensor`."""
        return tensor

    def stack(self, tensor: Tensor) -> Tensor:
        """Returns `tensor[None]`."""
        return tensor[None]

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Returns `[tensor]`."""
        return [tensor]
