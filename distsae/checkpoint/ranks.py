"""Ranks that succeed or fail together.

A checkpoint is a handful of phases, and after each every rank must know whether all the others came through: one that
raises alone leaves the rest waiting in a collective that never completes. `Ranks.together` runs a phase and turns the
first failure of any rank into the same error on all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from distsae.checkpoint.failures import CheckpointFailed
from distsae.errors import CannotContinue, DistsaeError, TornData, WrongInput

__all__ = ["Ranks"]

T = TypeVar("T")

_KINDS: dict[str, type[DistsaeError]] = {
    "WrongInput": WrongInput,
    "TornData": TornData,
    "CannotContinue": CannotContinue,
}


class Ranks:
    """All processes of a mesh, or the only one.

    Args:
        mesh: mesh with the dims `data` and `feature` that spans all processes; None for one process without
            torch.distributed.
        group: of all processes, to talk in; by default the world's. A thread needs one of its own, since the order of
            messages in a group must be the same on all ranks.
    """

    def __init__(self, mesh: DeviceMesh | None, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        if mesh is None:
            self.rank = 0
            self.size = 1
            self.data = 0
            self.feature = 0
            self.datas = 1
            self.features = 1
            return
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        assert mesh.size() == self.size, f"a mesh of {mesh.size()} ranks in a world of {self.size}"
        self.data, self.feature = mesh.get_local_rank("data"), mesh.get_local_rank("feature")
        self.datas, self.features = mesh["data"].size(), mesh["feature"].size()

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which alone touches what all ranks share."""
        return self.rank == 0

    def exchange(self, item: T) -> list[T]:
        """Returns every rank's item, in rank order."""
        if self.size == 1:
            return [item]
        gathered: list[T] = [item] * self.size
        dist.all_gather_object(gathered, item, group=self._group)
        return gathered

    def together(self, work: Callable[[], T]) -> list[T]:
        """Runs `work` on every rank and returns all results in rank order.

        Raises:
            DistsaeError: on every rank, if `work` raised an `OSError` or a `DistsaeError` on any; the lowest such rank
                is named. Wrong input and torn data keep their class, all else is a `CheckpointFailed`.
        """
        results: list[T] = []
        kind = problem = ""
        try:
            results.append(work())
        except (OSError, DistsaeError) as error:
            kind, problem = type(error).__name__, str(error)
        outcomes = self.exchange((kind, problem, results))
        for rank, (failed, text, _) in enumerate(outcomes):
            if failed:
                failure = _KINDS.get(failed, CheckpointFailed)(text if self.size == 1 else f"rank {rank}: {text}")
                failure.of_all_ranks = True
                raise failure
        return [result for _, _, rank_results in outcomes for result in rank_results]

    def only_first(self, work: Callable[[], T]) -> T | None:
        """Runs `work` on rank 0 and returns its result everywhere; its failure is raised everywhere."""
        return self.together(lambda: work() if self.first else None)[0]
