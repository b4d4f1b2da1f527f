"""Which of how many producers this is, and in which order it goes through the units.

Producers do not talk to each other. A launcher's environment tells a process its rank; it starts with its own share
of the units and then helps with the others. Without a launcher every process goes through all units; claims
keep processes apart in both cases.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

import torch

from distsae.errors import WrongInput

__all__ = ["ProducerRank", "own_device", "producer_rank", "unit_queue"]


class ProducerRank(NamedTuple):
    """Rank `rank` of `size` producers, number `local_rank` on its machine."""

    rank: int
    size: int
    local_rank: int


def producer_rank(environment: Mapping[str, str] = os.environ) -> ProducerRank:
    """Reads this process's place from a launcher's variables: torchrun or accelerate, srun, or a SLURM array."""
    if "RANK" in environment and "WORLD_SIZE" in environment:
        rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        return ProducerRank(rank, size, int(environment.get("LOCAL_RANK", rank)))
    tasks = int(environment.get("SLURM_NTASKS", "1"))
    task, local = int(environment.get("SLURM_PROCID", "0")), int(environment.get("SLURM_LOCALID", "0"))
    first = int(environment.get("SLURM_ARRAY_TASK_MIN", "0"))
    element = int(environment.get("SLURM_ARRAY_TASK_ID", str(first))) - first
    elements = int(environment.get("SLURM_ARRAY_TASK_COUNT", "1"))
    return ProducerRank(element * tasks + task, elements * tasks, local)


def unit_queue(place: ProducerRank, units: int) -> list[int]:
    """Returns all units: this rank's share in order, then the other ranks' from their ends.

    A rank works forwards through its share, so its helpers work backwards.
    """
    own = list(range(place.rank % place.size, units, place.size))
    others = [
        unit
        for step in range(1, place.size)
        for unit in reversed(range((place.rank + step) % place.size, units, place.size))
    ]
    return own + others


def own_device(device: str, place: ProducerRank) -> torch.device:
    """Returns the device that `device` means; `auto` takes the GPU of this process's local rank, else the CPU.

    Raises:
        WrongInput: there is no such device.
    """
    if device == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", place.local_rank % torch.cuda.device_count())
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise WrongInput(
            f"`device` (={device}) must be a device of this machine; got {str(error).splitlines()[0]}"
        ) from None
    return chosen
