"""Finds the largest SAE that fits into memory by bisection over `sae.d_sae`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from distsae.planning.items import MOMENTS, Facts, Item, bytes_at
from distsae.planning.memory import memory_items
from distsae.training import TrainConfig

__all__ = ["Memory", "fits", "largest_d_sae"]

_MOST = 1 << 34
"""A number of features that certainly does not fit."""


@dataclass(frozen=True)
class Memory:
    """The memory that the processes of a run have on one machine.

    Args:
        host: bytes of the machine's memory.
        processes: number of processes of the run that share them.
        device: bytes of each process's GPU; None without GPUs.
    """

    host: int
    processes: int
    device: int | None = None


def fits(items: Sequence[Item], memory: Memory) -> bool:
    """Returns whether the machine of the main process has enough memory for all its processes at every moment."""
    for moment in MOMENTS:
        main = bytes_at(items, moment, "host", main=True)
        other = bytes_at(items, moment, "host", main=False)
        if main + (memory.processes - 1) * other > memory.host:
            return False
        if memory.device is not None and bytes_at(items, moment, "device") > memory.device:
            return False
    return True


def largest_d_sae(members: Sequence[TrainConfig], facts: Facts, memory: Memory) -> int:
    """Returns the largest `sae.d_sae` that fits with everything else as given; 0 if none does.

    Args:
        members: config of the run, or of each member of a sweep, which all get this `d_sae`.
        facts: facts about the store and the machine.
        memory: memory of the machine.
    """

    def it_fits(d_sae: int) -> bool:
        return fits(memory_items([_with(config, d_sae) for config in members], facts), memory)

    least = max(max(config.sae.k, config.mesh.feature, round(config.sae.k_start or 0)) for config in members)
    if not it_fits(least):
        return 0
    low, high = least, _MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if it_fits(middle) else (low, middle)
    return low


def _with(config: TrainConfig, d_sae: int) -> TrainConfig:
    return replace(config, sae=replace(config.sae, d_sae=d_sae))
