"""The rank of a producer, and the order in which it goes through the units.

Producers do not communicate. A process reads its rank from the environment that its launcher sets. It starts with its
own share of the units and continues with those of the other ranks. Without a launcher every process goes through all
units. In both cases claims keep two processes from computing the same unit.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["ProducerRank", "producer_rank", "unit_queue"]


class ProducerRank(NamedTuple):
    """Which of `size` producers a process is: `rank` among all, `local_rank` on its machine."""

    rank: int
    size: int
    local_rank: int


def producer_rank(environment: Mapping[str, str] = os.environ) -> ProducerRank:
    """Reads this process's rank from the variables of torchrun, accelerate, srun or a SLURM job array."""
    if "RANK" in environment and "WORLD_SIZE" in environment:
        rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        return ProducerRank(rank, size, int(environment.get("LOCAL_RANK", rank)))
    tasks = int(environment.get("SLURM_NTASKS", "1"))
    task, local = int(environment.get("SLURM_PROCID", "0")), int(environment.get("SLURM_LOCALID", "0"))
    first = int(environment.get("SLURM_ARRAY_TASK_MIN", "0"))
    job = int(environment.get("SLURM_ARRAY_TASK_ID", str(first))) - first
    jobs = int(environment.get("SLURM_ARRAY_TASK_COUNT", "1"))
    return ProducerRank(job * tasks + task, jobs * tasks, local)


def unit_queue(producer: ProducerRank, units: int) -> list[int]:
    """Returns the order in which a producer goes through all units.

    Its own share comes first, in order. The shares of the other ranks follow, each from its end, because those ranks
    work through their shares from the beginning.
    """
    queue = list(range(producer.rank % producer.size, units, producer.size))
    for step in range(1, producer.size):
        other = (producer.rank + step) % producer.size
        queue += reversed(range(other, units, producer.size))
    return queue
