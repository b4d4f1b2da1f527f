"""`Collective` on a torch process group."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["GroupCollective"]


class GroupCollective:
    """The ranks of one process group; see `distsae.collective.Collective`.

    Args:
        group: the process group of an axis of the mesh, or of the world.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)

    def sum(self, tensor: Tensor) -> Tensor:
        """Returns the elementwise sum over the group; overwrites `tensor`."""
        dist.all_reduce(tensor, dist.ReduceOp.SUM, group=self._group)
        return tensor

    def max(self, tensor: Tensor) -> Tensor:
        """Returns the elementwise maximum over the group; overwrites `tensor`."""
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self._group)
        return tensor

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Returns every rank's tensor in rank order; first dimensions may differ."""
        length = torch.tensor([tensor.shape[0]], device=tensor.device)
        lengths = [torch.empty_like(length) for _ in range(self.size)]
        dist.all_gather(lengths, length, group=self._group)
        sizes = [int(n) for n in lengths]
        longest = max(sizes)
        padded = tensor.new_empty((longest, *tensor.shape[1:]))
        padded[: tensor.shape[0]] = tensor
        # Gloo knows no all-gather of unequal parts.
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded, group=self._group)
        return [part[:size] for part, size in zip(parts, sizes, strict=True)]
