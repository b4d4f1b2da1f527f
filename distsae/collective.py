"""The few words that ranks exchange.

`allocation` and `losses` see other processes only through this interface, so the paper's mathematics runs in a
notebook with `Solo` and is proved there; `distsae.parallel` implements it on a torch process group.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["Collective", "Solo"]


class Collective(Protocol):
    """A group of ranks along one axis of the mesh (or all of them)."""

    @property
    def rank(self) -> int:
        """This process's place in the group, `0 <= rank < size`."""
        ...

    @property
    def size(self) -> int:
        """Number of processes in the group."""
        ...

    def sum(self, tensor: Tensor) -> Tensor:
        """Returns the elementwise sum over the group, equal on every rank; `tensor` may be overwritten."""
        ...

    def max(self, tensor: Tensor) -> Tensor:
        """Returns the elementwise maximum over the group; `tensor` may be overwritten."""
        ...

    def stack(self, tensor: Tensor) -> Tensor:
        """Returns every rank's tensor, `[size, *tensor.shape]`, in rank order; all have the same shape."""
        ...

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Returns every rank's tensor in rank order; first dimensions may differ, the others may not."""
        ...


class Solo:
    """The group of one process: every collective is the identity."""

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
