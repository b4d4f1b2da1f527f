"""One process of the check of collectives, started by `accelerate launch`: `... -m distsae.recipes.check.group_rank`.

It prints one line of JSON on the first rank: what failed, and how fast tensors were exchanged.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist

from distsae.collective import Collective
from distsae.parallel import GroupCollective
from distsae.standard_streams import guard_standard_streams, show
from distsae.training.guards.network import choose_network

__all__ = ["main", "wrong_collectives"]

_NUMBERS = 1 << 24
_REPETITIONS = 5
_LATENCY_REPETITIONS = 50


def main() -> int:
    """Exchanges tensors of known numbers with the other processes, and returns the exit code."""
    guard_standard_streams()
    on_gpu = torch.cuda.is_available()
    choose_network(on_gpu)
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    backend = "nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=120))
    rank, size = dist.get_rank(), dist.get_world_size()
    world = dist.group.WORLD
    assert world is not None
    wrong = [f"{name} of {backend}" for name in wrong_collectives(GroupCollective(world), device)]
    aside = dist.new_group(backend="gloo", timeout=timedelta(seconds=120))
    wrong += [f"{name} of gloo" for name in wrong_collectives(GroupCollective(aside), torch.device("cpu"))]
    numbers = torch.ones(_NUMBERS, device=device)
    seconds = _seconds_of_sums(GroupCollective(world), numbers, device, _REPETITIONS)
    latency = _seconds_of_sums(GroupCollective(world), numbers[:1], device, _LATENCY_REPETITIONS)
    if rank == 0:
        # A ring sends and receives this share of the bytes on each rank, whatever the number of ranks.
        rate = 2 * (size - 1) / size * numbers.nbytes / seconds
        figures = {"backend": backend, "processes": size, "sum_bytes_per_s": rate, "sum_latency_s": latency}
        show(json.dumps({"wrong": wrong} | figures))
    dist.destroy_process_group()
    return 1 if wrong else 0


def wrong_collectives(group: Collective, device: torch.device) -> list[str]:
    """Returns the names of the collectives that give another result than they must. Collective.

    Args:
        group: group of processes.
        device: device of the tensors that are sent.
    """
    rank, size = group.rank, group.size
    found = []
    summed = group.sum(torch.full((1000,), float(rank + 1), device=device))
    if not bool((summed == size * (size + 1) / 2).all()):
        found.append("sum")
    gathered = group.gather(torch.full((3 + rank,), rank, device=device))
    if not all(part.numel() == 3 + other and bool((part == other).all()) for other, part in enumerate(gathered)):
        found.append("gather")
    return found


def _seconds_of_sums(group: GroupCollective, numbers: torch.Tensor, device: torch.device, repetitions: int) -> float:
    best = float("inf")
    for _ in range(repetitions):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        begun = time.perf_counter()
        group.sum(numbers.clone())
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - begun)
    return best


if __name__ == "__main__":
    sys.exit(main())
