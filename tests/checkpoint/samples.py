"""A state with every kind of tensor, split over any number of feature ranks, and process groups of real processes."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from distsae.checkpoint import Shard, State
from distsae.seeds import torch_generator

ROWS, D_IN = 13, 6
FACTS = {"step": 7, "seed": 1, "lr": 0.1 + 0.2, "schedule": {"phase": "mc", "left": [1, 2, None, True]}, "word": "ö"}

SHARDED = ("W_enc", "W_dec", "fired", "credit", "W_enc.moment", "alive")


def whole(seed: int = 0) -> dict[str, torch.Tensor]:
    """Returns global tensors, equal for equal seeds."""
    generator = torch_generator(seed, "sample")

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "W_enc": normal(ROWS, D_IN),
        "W_dec": normal(ROWS, D_IN).bfloat16(),
        "fired": torch.randint(-(2**62), 2**62, (ROWS,), generator=generator),
        "credit": normal(ROWS).double(),
        "W_enc.moment": normal(ROWS, 2, 3).half(),
        "alive": normal(ROWS) > 0,
        "b_dec": normal(D_IN),
        "step": torch.tensor(seed, dtype=torch.int64),
        "empty": torch.zeros(0, 3),
    }


def bounds(features: int, feature: int) -> tuple[int, int]:
    """Returns the rows of a feature rank. They are uneven on purpose: 5, 4, 4 on 3 ranks; the third of 4 has none."""
    if features == 4:
        cuts = [0, 6, 9, 9, 13]
    else:
        cuts = [-(-ROWS * rank // features) for rank in range(features + 1)]
    return cuts[feature], cuts[feature + 1]


def cut(tensors: dict[str, torch.Tensor], features: int, feature: int) -> State:
    """Returns what one feature rank holds of `tensors`, in fresh memory."""
    start, stop = bounds(features, feature)
    return {
        name: Shard(tensor[start:stop].clone(), start, ROWS) if name in SHARDED else tensor.clone()
        for name, tensor in tensors.items()
    }


def blank(features: int = 1, feature: int = 0) -> State:
    """Returns a state of ones to load the same tensors into."""
    return cut({name: torch.full_like(tensor, True) for name, tensor in whole().items()}, features, feature)


def same(left: State, right: State) -> bool:
    """Returns whether two states are equal bit for bit, in ranges and dtypes too."""

    def parts(value: Any) -> tuple[Any, int, int]:
        return (value.local, value.offset, value.total) if isinstance(value, Shard) else (value, 0, -1)

    for name in left.keys() | right.keys():
        (a, *a_rows), (b, *b_rows) = parts(left[name]), parts(right[name])
        if a_rows != b_rows or a.dtype != b.dtype or a.shape != b.shape:
            return False
        if not torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8)):
            return False
    return True


def run_worlds(processes: int, work: Callable[[int, Path], None], folder: Path) -> None:
    """Runs `work(rank, folder)` in real processes; an exception in one of them fails the test."""
    mp.spawn(_run_work, (work, folder), nprocs=processes)


def _run_work(rank: int, work: Callable[[int, Path], None], folder: Path) -> None:
    work(rank, folder)
    # Ends process groups that caught exceptions keep alive: their threads must not free tensors during shutdown.
    gc.collect()


class World:
    """A process group that lasts as long as a `with` block, which gets its mesh; ranks outside the group get None."""

    count = 0

    def __init__(self, rank: int, folder: Path, data: int, feature: int) -> None:
        self.rank = rank
        self.folder = folder
        self.data = data
        self.feature = feature

    def __enter__(self) -> DeviceMesh | None:
        World.count += 1
        size = self.data * self.feature
        if self.rank >= size:
            return None
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        dist.init_process_group(
            "gloo",
            init_method=f"file://{self.folder}/rendezvous-{World.count}",
            rank=self.rank,
            world_size=size,
            timeout=timedelta(seconds=120),
        )
        return init_device_mesh("cpu", (self.data, self.feature), mesh_dim_names=("data", "feature"))

    def __exit__(self, *_: object) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()
