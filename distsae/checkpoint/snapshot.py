"""What one rank writes: its share of the state, as it is now or copied so that training may go on.

Data ranks hold the same rows and divide them among themselves, so that each copies and writes no more than its share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from distsae.checkpoint.ranks import Ranks
from distsae.checkpoint.state import Shard, Streamed, Value, describe
from distsae.checkpoint.write_plan import REPLICATED, Holding, shard_file, share

__all__ = ["HostCopies", "Snapshot"]


@dataclass(frozen=True)
class Snapshot:
    """This rank's share of a state.

    Args:
        holding: what the rank holds, with all its rows.
        files: tensors by name for each file that it writes.
    """

    holding: Holding
    files: dict[str, dict[str, Tensor]]

    @staticmethod
    def take(tensors: Mapping[str, Value], ranks: Ranks, copies: HostCopies | None) -> Snapshot:
        """Takes the share of this rank; a collective of the data ranks if tensors are streamed.

        Args:
            tensors: the state.
            ranks: whose state it is.
            copies: where to copy it, so that the state may change afterwards; None refers to the live tensors, and
                only those that are streamed are copied.
        """
        shared: dict[str, Tensor] = {}
        rows: dict[str, Tensor] = {}
        for name in sorted(tensors):
            value = tensors[name]
            own = _own_part(value, ranks)
            if own is None:
                continue
            if copies is not None:
                own = copies.of(name, own)
            elif isinstance(value.local if isinstance(value, Shard) else value, Streamed):
                own = own.detach().to("cpu", copy=True)  # else the whole tensor would live on in its share
            (rows if isinstance(value, Shard) else shared)[name] = own
        if copies is not None:
            copies.wait()
        files = {REPLICATED: shared, shard_file(ranks.feature, ranks.features, ranks.data, ranks.datas): rows}
        return Snapshot(Holding(ranks.feature, describe(tensors)), {name: own for name, own in files.items() if own})


def _own_part(value: Value, ranks: Ranks) -> Tensor | None:
    """Returns what this rank writes of a tensor, in its own memory or freshly read; None if nothing."""
    if isinstance(value, Shard):
        whole = value.local.read() if isinstance(value.local, Streamed) else value.local
        first, last = share((0, whole.shape[0]), ranks.data, ranks.datas)
        return whole.detach()[first:last] if first < last else None
    whole = value.read() if isinstance(value, Streamed) else value
    return whole.detach() if ranks.first else None


@dataclass
class HostCopies:
    """Host memory for copies of tensors, used again from one checkpoint to the next.

    The first touch of fresh memory costs more than the copy itself. Copies from a GPU go to pinned memory, all of them
    under way at once.
    """

    _kept: dict[str, Tensor] = field(default_factory=dict)
    _under_way: bool = False

    def of(self, name: str, tensor: Tensor) -> Tensor:
        """Begins to copy a tensor and returns the copy, which is overwritten by the next one of this name."""
        kept = self._kept.get(name)
        if kept is None or kept.shape != tensor.shape or kept.dtype != tensor.dtype:
            kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._kept[name] = kept
        kept.copy_(tensor, non_blocking=tensor.is_cuda)
        self._under_way |= tensor.is_cuda
        return kept

    def wait(self) -> None:
        """Returns when all copies are made."""
        if self._under_way:
            torch.cuda.synchronize()
            self._under_way = False

    def free(self) -> None:
        """Gives the memory back."""
        self._kept.clear()
