"""Whether members fit into memory side by side."""

from __future__ import annotations

from distsae.planning import Facts, Memory, facts_of, memory_items
from distsae.planning.largest import fits
from distsae.planning.machine import memory_here
from distsae.store import Store
from distsae.training import TrainConfig
from distsae.training.sweep import members

__all__ = ["Fitting"]

_SHARE = 0.9
"""Share of the free memory that a training may take: the study itself needs some."""


class Fitting:
    """Plans the memory of sweeps, as `distsae train --dry_run` does.

    Args:
        store: the store.
        memory_gb: GiB that each process has, on its GPU if there is one; None for the memory that is free here.
    """

    def __init__(self, store: Store, memory_gb: float | None) -> None:
        self._store = store
        self._memory_gb = memory_gb
        self._facts: dict[tuple[object, ...], Facts] = {}

    def __call__(self, config: TrainConfig) -> bool:
        """Returns whether all members of a sweep fit into memory at once."""
        facts = self._facts_of(config)
        runs = list(members(config).values())
        return fits(memory_items(runs, facts), self._memory(config.mesh.data * config.mesh.feature, facts.gpu))

    def _facts_of(self, config: TrainConfig) -> Facts:
        """Returns the facts, which take seconds to measure, once for all configs that share them."""
        key = (config.hook, config.batch_tokens, config.mesh, config.normalise, config.engine, config.prefilter)
        if key not in self._facts:
            self._facts[key] = facts_of(self._store, config)
        return self._facts[key]

    def _memory(self, processes: int, gpu: bool) -> Memory:
        if self._memory_gb is None:
            free = memory_here(processes, gpu=gpu)
            device = None if free.device is None else int(_SHARE * free.device)
            return Memory(int(_SHARE * free.host), free.processes, device)
        each = round(self._memory_gb * 2**30)
        return Memory(1 << 62, processes, each) if gpu else Memory(each * processes, processes)
