"""The rank of a producer, and the order in which it goes through the units.

Producers do not communicate. A process reads its rank from the environment that its launcher sets. It starts with its
own share of the units and continues with those of the other ranks. Without a launcher every process goes through all
units. In both cases claims keep two processes from computing the same unit.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from distsae.environment import whole_number

__all__ = ["ProducerRank", "producer_rank", "unit_queue"]


class ProducerRank(NamedTuple):
    """Which of `size` producers a process is: `rank` among all, `local_rank` on its machine."""

    rank: int
    size: int
    local_rank: int


def producer_rank(environment: Mapping[str, str] = os.environ) -> ProducerRank:
    """Reads this process's rank from the variables of torchrun, accelerate, srun or a SLURM job array.

    Raises:
        WrongInput: a variable is no whole number.
    """

    def number(name: str, default: int) -> int:
        return whole_number(name, default, environment)

    if "RANK" in environment and "WORLD_SIZE" in environment:
        rank, size = number("RANK", 0), number("WORLD_SIZE", 1)
        return ProducerRank(rank, size, number("LOCAL_RANK", rank))
    tasks = number("SLURM_NTASKS", 1)
    first = number("SLURM_ARRAY_TASK_MIN", 0)
    job = number("SLURM_ARRAY_TASK_ID", first) - first
    jobs = number("SLURM_ARRAY_TASK_COUNT", 1)
    return ProducerRank(job * tasks + number("SLURM_PROCID", 0), jobs * tasks, number("SLURM_LOCALID", 0))


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
