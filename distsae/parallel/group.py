"""`Collective` on a torch process group."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["GroupCollective"]


class GroupCollective:
    """The ranks of one process group; see `distsae.collective.Collective`.

    Statistics and quotas are kept on the CPU; NCCL carries GPU tensors only, so they travel through the GPU.

    Args:
        group: the process group of an axis of the mesh, or of the world.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self._by_gpu = dist.get_backend(group) == "nccl"
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)

    def sum(self, tensor: Tensor) -> Tensor:
        """Returns the elementwise sum over the group; may overwrite `tensor`."""
        return self._reduce(tensor, dist.ReduceOp.SUM)

    def max(self, tensor: Tensor) -> Tensor:
        """Returns the elementwise maximum over the group; may overwrite `tensor`."""
        return self._reduce(tensor, dist.ReduceOp.MAX)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Returns every rank's tensor in rank order; first dimensions may differ."""
        sent = self._on_wire(tensor)
        length = torch.tensor([sent.shape[0]], device=sent.device)
        lengths = [torch.empty_like(length) for _ in range(self.size)]
        dist.all_gather(lengths, length, group=self._group)
        sizes = [int(n) for n in lengths]
        # Gloo knows no all-gather of unequal parts.
        padded = sent.new_empty((max(sizes), *sent.shape[1:]))
        padded[: sent.shape[0]] = sent
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded, group=self._group)
        return [part[:size].to(tensor.device) for part, size in zip(parts, sizes, strict=True)]

    def _reduce(self, tensor: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        sent = self._on_wire(tensor)
        dist.all_reduce(sent, operation, group=self._group)
        return sent.to(tensor.device)

    def _on_wire(self, tensor: Tensor) -> Tensor:
        return tensor.cuda() if self._by_gpu and not tensor.is_cuda else tensor
