"""`Collective` on a torch process group."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["GroupCollective"]


_gather_into = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
"""Newer versions of torch warn of the second name; older ones have no other."""


class GroupCollective:
    """A `distsae.collective.Collective` over the ranks of one process group.

    Thresholds and small counts are kept on the CPU. NCCL sends GPU tensors only, so they are sent through the GPU.

    Args:
        group: process group of an axis of the mesh, or of all processes.

    Attributes:
        collectives: number of torch collectives so far.
        bytes_received: bytes that this rank has received in them, as ring algorithms send them: in an all-gather the
            tensors of the `size - 1` other ranks, in an all-reduce `2 * (size - 1) / size` times the tensor.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self._needs_gpu = dist.get_backend(group) == "nccl"
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)
        self.collectives = 0
        self.bytes_received = 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Returns the elementwise sum over the group; may overwrite `tensor`. One collective."""
        return self._reduce(tensor, dist.ReduceOp.SUM)

    def max(self, tensor: Tensor) -> Tensor:
        """Returns the elementwise maximum over the group; may overwrite `tensor`. One collective."""
        return self._reduce(tensor, dist.ReduceOp.MAX)

    def stack(self, tensor: Tensor) -> Tensor:
        """Returns the tensors of all ranks, which have equal shapes, as `[size, *tensor.shape]`. One collective."""
        sent = self._sendable(tensor).contiguous()
        parts = sent.new_empty((self.size, *sent.shape))
        _gather_into(parts.view(-1), sent.view(-1), group=self._group)
        self._count(sent, self.size - 1)
        return parts.to(tensor.device)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Returns the tensors of all ranks in rank order; their first dimensions may differ. Two collectives."""
        sizes = self.stack(torch.full((), tensor.shape[0], dtype=torch.int64, device=tensor.device)).tolist()
        # Gloo has no all-gather of parts of different sizes.
        padded = tensor.new_empty((max(sizes), *tensor.shape[1:]))
        padded[: tensor.shape[0]] = tensor
        return [part[:size] for part, size in zip(self.stack(padded), sizes, strict=True)]

    def _reduce(self, tensor: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        sent = self._sendable(tensor)
        dist.all_reduce(sent, operation, group=self._group)
        self._count(sent, 2 * (self.size - 1) / self.size)
        return sent.to(tensor.device)

    def _sendable(self, tensor: Tensor) -> Tensor:
        return tensor.cuda() if self._needs_gpu and not tensor.is_cuda else tensor

    def _count(self, sent: Tensor, parts: float) -> None:
        self.collectives += 1
        self.bytes_received += round(parts * sent.numel() * sent.element_size())
