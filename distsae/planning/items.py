"""The parts of a memory plan: items, the moments of a run at which they are allocated, and the memory they are in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["ALWAYS", "MOMENTS", "STEPPING", "TRAINING", "Facts", "Item", "MemoryKind", "Moment", "bytes_at", "peak"]

Moment = Literal["start", "select", "update", "save", "freeze", "write"]
"""A moment of a run.

`start`: the initial rows are made. `select`: a step selects its matches. `update`: a step updates the rows. `save`: a
checkpoint is saved. `freeze`: the frozen rule is calibrated. `write`: the finished SAE is written.
"""

MemoryKind = Literal["host", "device"]
"""The memory of the machine, or of one GPU. Without a GPU everything is in the host's."""

MOMENTS: tuple[Moment, ...] = get_args(Moment)

ALWAYS = MOMENTS
TRAINING: tuple[Moment, ...] = ("select", "update", "save", "freeze", "write")
"""All moments after the start."""
STEPPING: tuple[Moment, ...] = ("select", "update", "save")
"""The moments from the first step to the last checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts about the store and the machine that a memory plan depends on.

    Args:
        d_in: width of the activations.
        storage_bytes: bytes of one number in the store.
        heldout_rows: number of held-out rows in the store, which calibrate and judge the frozen rule.
        reader_bytes: most bytes of host memory that the reader of one data rank holds.
        process_bytes: bytes of a process that has loaded its libraries and nothing else.
        gpu: whether training runs on a GPU; otherwise everything is in the host's memory.
        prefilter: whether scores are prefiltered in bf16.
        cuda_libraries_bytes: bytes of CUDA's libraries in the host's memory that `process_bytes` does not include.
    """

    d_in: int
    storage_bytes: int
    heldout_rows: int
    reader_bytes: int
    process_bytes: int
    gpu: bool
    prefilter: bool
    cuda_libraries_bytes: int = 0


@dataclass(frozen=True)
class Item:
    """Memory that one rank needs for one purpose.

    Args:
        name: purpose of the memory, as the plan shows it.
        bytes: size in bytes.
        when: moments at which it is allocated.
        where: memory that it is in.
        main_only: whether only the main process has it.
    """

    name: str
    bytes: int
    when: tuple[Moment, ...]
    where: MemoryKind = "host"
    main_only: bool = False


def bytes_at(items: Iterable[Item], moment: Moment, where: MemoryKind, *, main: bool = True) -> int:
    """Returns the bytes that one process needs at a moment.

    Args:
        items: items of the plan.
        moment: moment of the run.
        where: memory to add up.
        main: whether the process is the main one; only that one has the items with `main_only`.
    """
    return sum(
        item.bytes for item in items if moment in item.when and item.where == where and (main or not item.main_only)
    )


def peak(items: Iterable[Item], where: MemoryKind = "host", moments: Iterable[Moment] = MOMENTS) -> int:
    """Returns the most bytes that the main process, which has all items, needs at any of `moments`."""
    items = list(items)
    return max(bytes_at(items, moment, where) for moment in moments)
