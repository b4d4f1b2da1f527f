"""What one rank writes: its share of the state, either the live tensors or copies that let training go on.

Data ranks that hold the same rows divide them among themselves: each copies and writes its share only. Of tensors that
are divided over them already, each writes the rows that it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from distsae.checkpoint.ranks import Ranks
from distsae.checkpoint.state import Shard, Streamed, Value, describe
from distsae.checkpoint.write_plan import REPLICATED, RankTensors, rows_to_write, shard_file
from distsae.locked_memory import LockedMemory

__all__ = ["HostCopies", "Snapshot"]


@dataclass(frozen=True)
class Snapshot:
    """The share of a state that one rank writes.

    Args:
        rank_tensors: description of the tensors that the rank holds, with all its rows.
        files: tensors to write, by the name of their file and their own name.
    """

    rank_tensors: RankTensors
    files: dict[str, dict[str, Tensor]]

    @staticmethod
    def take(tensors: Mapping[str, Value], ranks: Ranks, copies: HostCopies | None) -> Snapshot:
        """Takes the share of this rank. A collective of the data ranks if tensors are streamed.

        Args:
            tensors: the whole state of this rank.
            ranks: the ranks, which divide the state among themselves.
            copies: memory to copy the share to, so that the state may change afterwards. With None the snapshot refers
                to the live tensors, and only streamed tensors are copied.
        """
        replicated: dict[str, Tensor] = {}
        sharded: dict[str, Tensor] = {}
        for name in sorted(tensors):
            value = tensors[name]
            share = _share(value, ranks)
            if share is None:
                continue
            if copies is not None:
                share = copies.copy(name, share)
            elif isinstance(value.local if isinstance(value, Shard) else value, Streamed):
                share = share.detach().to("cpu", copy=True)  # a view would keep the whole streamed tensor in memory
            (sharded if isinstance(value, Shard) else replicated)[name] = share
        if copies is not None:
            copies.wait()
        own_shard_file = shard_file(ranks.feature, ranks.feature_size, ranks.data, ranks.data_size)
        files = {REPLICATED: replicated, own_shard_file: sharded}
        return Snapshot(
            RankTensors(ranks.feature, ranks.data, describe(tensors)),
            {name: contents for name, contents in files.items() if contents},
        )


def _share(value: Value, ranks: Ranks) -> Tensor | None:
    """Returns the part of a tensor that this rank writes, a view or freshly read; None if it writes nothing."""
    if isinstance(value, Shard):
        local = value.local.read() if isinstance(value.local, Streamed) else value.local
        every = (0, local.shape[0])
        start, stop = every if value.divided else rows_to_write(every, ranks.data, ranks.data_size)
        return local.detach()[start:stop] if start < stop else None
    whole = value.read() if isinstance(value, Streamed) else value
    return whole.detach() if ranks.first else None


@dataclass
class HostCopies:
    """Host memory for copies of tensors, reused from one checkpoint to the next.

    Memory is reused because the first touch of fresh memory takes longer than the copy itself. Copies from a GPU go to
    page-locked memory, and all of them run at the same time.
    """

    locked: LockedMemory = field(
        default_factory=lambda: LockedMemory("checkpoints are copied to ordinary memory, which takes longer")
    )
    _kept: dict[str, Tensor] = field(default_factory=dict)
    _under_way: bool = False

    @property
    def bytes(self) -> int:
        """Size of the memory that is held."""
        return sum(tensor.nbytes for tensor in self._kept.values())

    def copy(self, name: str, tensor: Tensor) -> Tensor:
        """Begins to copy a tensor and returns the copy. The next copy of this name overwrites it."""
        kept = self._kept.get(name)
        if kept is None or kept.shape != tensor.shape or kept.dtype != tensor.dtype:
            if kept is not None:
                self.locked.release(kept)
            kept = self.locked.like(tensor) if tensor.is_cuda else torch.empty(tensor.shape, dtype=tensor.dtype)
            self._kept[name] = kept
        kept.copy_(tensor, non_blocking=tensor.is_cuda)
        self._under_way |= tensor.is_cuda
        return kept

    def wait(self) -> None:
        """Waits until all copies are complete."""
        if self._under_way:
            torch.cuda.synchronize()
            self._under_way = False

    def free(self) -> None:
        """Gives the memory back. Copies that are still referred to, by a save under way, stay valid."""
        for kept in self._kept.values():
            self.locked.release(kept)
        self._kept.clear()
