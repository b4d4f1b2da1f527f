"""The words of a memory plan: items, when they are there, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["ALWAYS", "MOMENTS", "STEPPING", "TRAINING", "Facts", "Item", "MemoryKind", "Moment", "at", "peak"]

Moment = Literal["start", "select", "update", "save", "freeze", "write"]
"""Rows are made; a step selects, and then updates; a checkpoint is saved; the frozen rule is calibrated; the SAE is
written."""

MemoryKind = Literal["host", "device"]

MOMENTS: tuple[Moment, ...] = get_args(Moment)
ALWAYS = MOMENTS
TRAINING: tuple[Moment, ...] = ("select", "update", "save", "freeze", "write")
STEPPING: tuple[Moment, ...] = ("select", "update", "save")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the plan is told by the store and the machine.

    Args:
        d_in: width of the activations.
        storage_bytes: of a number in the store.
        heldout_rows: rows that will judge and calibrate the frozen rule.
        reader_bytes: most memory of the reader of one data rank.
        process_bytes: of a process before it does anything.
        gpu: whether training is on a GPU; otherwise everything is in the host's memory.
        prefilter: whether scores are prefiltered in bf16.
    """

    d_in: int
    storage_bytes: int
    heldout_rows: int
    reader_bytes: int
    process_bytes: int
    gpu: bool
    prefilter: bool


@dataclass(frozen=True)
class Item:
    """Memory of one kind on one rank.

    Args:
        name: what it is for.
        bytes: how much.
        when: the moments at which it is there.
        where: in which memory.
        main_only: whether the main process alone has it.
    """

    name: str
    bytes: int
    when: tuple[Moment, ...]
    where: MemoryKind = "host"
    main_only: bool = False


def at(items: Iterable[Item], moment: Moment, where: MemoryKind, *, main: bool = True) -> int:
    """Returns the bytes that are there at a moment, on the main process or on any other."""
    return sum(i.bytes for i in items if moment in i.when and i.where == where and (main or not i.main_only))


def peak(items: Iterable[Item], where: MemoryKind = "host", moments: Iterable[Moment] = MOMENTS) -> int:
    """Returns the most bytes that are ever there on the main process, which has all items."""
    items = list(items)
    return max(at(items, moment, where) for moment in moments)
