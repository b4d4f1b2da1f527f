"""The largest SAE that fits: bisection over `sae.d_sae`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from distsae.planning.items import MOMENTS, Facts, Item, at
from distsae.planning.memory import memory_items
from distsae.training import TrainConfig

__all__ = ["Memory", "fits", "largest_d_sae"]

_MOST = 1 << 34


@dataclass(frozen=True)
class Memory:
    """The memory there is.

    Args:
        host: bytes of the machine.
        processes: of the run that share it.
        device: bytes of one GPU; None without.
    """

    host: int
    processes: int
    device: int | None = None


def fits(items: Sequence[Item], memory: Memory) -> bool:
    """Says whether the processes of the main process's machine have room at every moment."""
    for moment in MOMENTS:
        main, other = (at(items, moment, "host", main=main) for main in (True, False))
        if main + (memory.processes - 1) * other > memory.host:
            return False
        if memory.device is not None and at(items, moment, "device") > memory.device:
            return False
    return True


def largest_d_sae(members: Sequence[TrainConfig], facts: Facts, memory: Memory) -> int:
    """Returns the largest `sae.d_sae` with which all else as given fits; 0 if none does."""

    def good(d_sae: int) -> bool:
        return fits(memory_items([_with(config, d_sae) for config in members], facts), memory)

    least = max(max(config.sae.k, config.mesh.feature, round(config.sae.k_start or 0)) for config in members)
    if not good(least):
        return 0
    low, high = least, _MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if good(middle) else (low, middle)
    return low


def _with(config: TrainConfig, d_sae: int) -> TrainConfig:
    return replace(config, sae=replace(config.sae, d_sae=d_sae))
