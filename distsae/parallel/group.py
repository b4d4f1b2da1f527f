"""`Collective` on a torch process group."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["GroupCollective"]


class GroupCollective:
    """The ranks of one process group; see `distsae.collective.Collective`.

    Thresholds and small counts are kept on the CPU; NCCL carries GPU tensors only, so they travel through the GPU.

    Args:
        group: the process group of an axis of the mesh, or of the world.

    Attributes:
        collectives: calls of torch's collectives so far.
        bytes_received: bytes that reached this rank in them, as ring algorithms send them: `size - 1` parts of an
            all-gather, twice `(size - 1) / size` of an all-reduce.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self._by_gpu = dist.get_backend(group) == "nccl"
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)
        self.collectives = self.bytes_received = 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Returns the elementwise sum over the group; may overwrite `tensor`."""
        return self._reduce(tensor, dist.ReduceOp.SUM)

    def max(self, tensor: Tensor) -> Tensor:
        """Returns the elementwise maximum over the group; may overwrite `tensor`."""
        return self._reduce(tensor, dist.ReduceOp.MAX)

    def stack(self, tensor: Tensor) -> Tensor:
        """Returns every rank's tensor, `[size, *tensor.shape]`; one collective."""
        sent = self._on_wire(tensor).contiguous()
        parts = sent.new_empty((self.size, *sent.shape))
        dist.all_gather(list(parts.unbind()), sent, group=self._group)
        self._count(sent, self.size - 1)
        return parts.to(tensor.device)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Returns every rank's tensor in rank order; first dimensions may differ. Two collectives."""
        sizes = self.stack(torch.tensor(tensor.shape[0], device=tensor.device)).tolist()
        # Gloo knows no all-gather of unequal parts.
        padded = tensor.new_empty((max(sizes), *tensor.shape[1:]))
        padded[: tensor.shape[0]] = tensor
        return [part[:size] for part, size in zip(self.stack(padded), sizes, strict=True)]

    def _reduce(self, tensor: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        sent = self._on_wire(tensor)
        dist.all_reduce(sent, operation, group=self._group)
        self._count(sent, 2 * (self.size - 1) / self.size)
        return sent.to(tensor.device)

    def _on_wire(self, tensor: Tensor) -> Tensor:
        return tensor.cuda() if self._by_gpu and not tensor.is_cuda else tensor

    def _count(self, sent: Tensor, parts: float) -> None:
        self.collectives += 1
        self.bytes_received += round(parts * sent.numel() * sent.element_size())
