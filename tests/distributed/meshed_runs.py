"""Whole runs, as `distsae train` does them, on the processes of a mesh that a test lends."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor

from distsae.batches import BatchReader
from distsae.checkpoint import Shard, Streamed
from distsae.parallel import Mesh, MeshConfig
from distsae.training import TrainConfig, train
from distsae.training.engines import DeepSpeedConfig
from distsae.training.run import Run

__all__ = ["Layout", "trained", "walked"]


@dataclass(frozen=True)
class Layout:
    """Where a run is: the mesh, data x feature, and ZeRO's stage under DeepSpeed."""

    shape: tuple[int, int]
    zero: int | None = None

    def __str__(self) -> str:
        data, feature = self.shape
        return f"{data}x{feature}" + (f" ZeRO-{self.zero}" if self.zero else "")

    def of(self, config: TrainConfig) -> TrainConfig:
        mesh = MeshConfig(data=self.shape[0], feature=self.shape[1])
        if self.zero is None:
            return dataclasses.replace(config, mesh=mesh)
        return dataclasses.replace(
            config, mesh=mesh, engine="deepspeed", deepspeed=DeepSpeedConfig(zero_stage=self.zero)
        )


def trained(mesh: Mesh, config: TrainConfig) -> None:
    """Trains to the end. The mesh of `config` must be this one, which says what processes there are."""
    with _as_launched(mesh):
        train(config)


def walked(mesh: Mesh, config: TrainConfig, stops: Sequence[int]) -> list[dict[str, Tensor]]:
    """Takes a run up, or begins it, and returns its whole state each time that it has done the steps of a stop.

    Args:
        mesh: of the processes, that of `config`.
        config: the run.
        stops: numbers of steps, ascending; the first may be that of the checkpoint.

    Returns:
        All tensors of the state, of all features, as this rank sees them.
    """
    states = []

    def walk(runs: list[Run], reader: BatchReader, accelerator: Accelerator, *_: object) -> None:
        (run,) = runs
        run.start()
        accelerator.wait_for_everyone()
        for number in stops:
            while run.done < number:
                run.step(reader.batch(run.done))
            states.append(_whole(run, mesh))

    with _as_launched(mesh):
        train(config, loop=walk)
    return states


def _whole(run: Run, mesh: Mesh) -> dict[str, Tensor]:
    def whole(value: Tensor | Streamed | Shard) -> Tensor:
        if isinstance(value, Shard):
            return torch.cat(mesh.feature.gather(whole(value.local)))
        return value.read() if isinstance(value, Streamed) else value.detach().clone()

    return {name: whole(value) for name, value in sorted(run.state.tensors().items())}


@contextmanager
def _as_launched(mesh: Mesh) -> Iterator[None]:
    """Lets accelerate find the processes that there are, and not those of the run before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the other processes: the last bit of a product depends on it
    if mesh.device_mesh is not None:
        # The process group is there already; nobody listens at this address.
        os.environ |= {"ACCELERATE_USE_CPU": "true", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
        AcceleratorState._reset_state()
        PartialState._reset_state()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
