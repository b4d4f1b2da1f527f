"""Ranks that succeed or fail together.

Saving and loading consist of phases. After each phase every rank must learn whether all the others succeeded, because a
rank that raises alone leaves the others waiting in a collective that never completes. `Ranks.together` runs a phase and
raises the first failure of any rank as the same error on all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from distsae.errors import CannotContinue, CheckpointFailed, DistsaeError, TornData, WrongInput, is_lasting

__all__ = ["Ranks"]

T = TypeVar("T")

_KEPT_CLASSES: dict[str, type[DistsaeError]] = {
    "WrongInput": WrongInput,
    "TornData": TornData,
    "CannotContinue": CannotContinue,
}


class Ranks:
    """All ranks of a mesh, as this one sees them.

    Args:
        mesh: mesh with the dims `data` and `feature` that spans all processes; None for one process without
            torch.distributed.
        group: process group of all processes, for the collectives of this object; by default the world's. A thread
            needs a group of its own, because collectives in one group must have the same order on all ranks.

    Attributes:
        rank: global rank of this process.
        size: number of processes.
        data: rank of this process on the data axis.
        feature: rank of this process on the feature axis.
        data_size: number of ranks on the data axis.
        feature_size: number of ranks on the feature axis.
    """

    def __init__(self, mesh: DeviceMesh | None, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        if mesh is None:
            self.rank = 0
            self.size = 1
            self.data = 0
            self.feature = 0
            self.data_size = 1
            self.feature_size = 1
            return
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        assert mesh.size() == self.size, f"a mesh of {mesh.size()} ranks in a world of {self.size}"
        self.data = mesh.get_local_rank("data")
        self.feature = mesh.get_local_rank("feature")
        self.data_size = mesh["data"].size()
        self.feature_size = mesh["feature"].size()

    @property
    def first(self) -> bool:
        """Whether this is rank 0, the only one that changes what all ranks share."""
        return self.rank == 0

    def exchange(self, item: T) -> list[T]:
        """Returns the items of all ranks, in rank order. Collective."""
        if self.size == 1:
            return [item]
        gathered: list[T] = [item] * self.size
        dist.all_gather_object(gathered, item, group=self._group)
        return gathered

    def together(self, work: Callable[[], T]) -> list[T]:
        """Runs `work` on every rank and returns the results in rank order. Collective.

        Raises:
            DistsaeError: on every rank, if `work` raised an `OSError` or a `DistsaeError` on any rank; the text names
                the lowest such rank. `WrongInput`, `TornData` and `CannotContinue` keep their class, any other error
                becomes a `CheckpointFailed`.
        """
        results: list[T] = []
        error_class = error_text = ""
        lasting = False
        try:
            results.append(work())
        except (OSError, DistsaeError) as error:
            error_class, error_text = type(error).__name__, str(error)
            lasting = is_lasting(error)
        outcomes = self.exchange((error_class, error_text, lasting, results))
        for rank, (raised, text, lasts, _) in enumerate(outcomes):
            if raised:
                error_type = _KEPT_CLASSES.get(raised, CheckpointFailed)
                failure = error_type(text if self.size == 1 else f"rank {rank}: {text}")
                failure.of_all_ranks = True
                failure.lasting = lasts
                raise failure
        return [result for _, _, _, rank_results in outcomes for result in rank_results]

    def only_first(self, work: Callable[[], T]) -> T | None:
        """Runs `work` on rank 0 and returns its result, or raises its failure, on every rank. Collective."""
        return self.together(lambda: work() if self.first else None)[0]
