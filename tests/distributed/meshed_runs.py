"""Whole runs, as `distsae train` does them, on the processes of `run_on_mesh`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor

from distsae.batches import BatchReader
from distsae.checkpoint import Shard, Streamed
from distsae.parallel import Mesh, MeshConfig
from distsae.training import TrainConfig, train
from distsae.training.engines import DeepSpeedConfig, plain
from distsae.training.run import Run

__all__ = ["Layout", "trained", "walked"]

_BLOCK_BYTES = 4096
"""Bytes of one matrix in a block of rows, so that a shard of a few features has several blocks to divide."""


@dataclass(frozen=True)
class Layout:
    """Mesh and engine of a run.

    Args:
        shape: sizes of the data and the feature axis.
        zero: stage of DeepSpeed's ZeRO; None for the plain engine.
        divided: whether the plain engine divides Adam's moments.
    """

    shape: tuple[int, int]
    zero: int | None = None
    divided: bool = False

    def __str__(self) -> str:
        data, feature = self.shape
        return f"{data}x{feature}" + (f" ZeRO-{self.zero}" if self.zero else "") + " divided" * self.divided

    def of(self, config: TrainConfig) -> TrainConfig:
        """Returns the config of the same run in this layout."""
        mesh = MeshConfig(data=self.shape[0], feature=self.shape[1])
        if self.zero is None:
            optimizer = dataclasses.replace(config.optimizer, divide_moments=self.divided)
            return dataclasses.replace(config, mesh=mesh, optimizer=optimizer)
        return dataclasses.replace(
            config, mesh=mesh, engine="deepspeed", deepspeed=DeepSpeedConfig(zero_stage=self.zero)
        )


def trained(mesh: Mesh, config: TrainConfig) -> None:
    """Trains a run to its end on these processes; `config` must have their mesh."""
    with _as_launched(mesh):
        train(config)


def walked(mesh: Mesh, config: TrainConfig, stops: Sequence[int]) -> list[dict[str, Tensor]]:
    """Starts or resumes a run, steps it, and returns its whole state after some numbers of steps.

    Args:
        mesh: the mesh, as this rank sees it, that of `config`.
        config: configuration of the run.
        stops: numbers of steps, ascending; the first may be that of the checkpoint it resumes from.

    Returns:
        For each stop, all tensors of the state, of all features.
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

    with _as_launched(mesh), pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "_CPU_BLOCK_BYTES", _BLOCK_BYTES)
        train(config, loop=walk)
    return states


def _whole(run: Run, mesh: Mesh) -> dict[str, Tensor]:
    """Returns copies of all tensors of a run's state, of all features. Collective."""

    def whole(value: Tensor | Streamed | Shard) -> Tensor:
        if isinstance(value, Shard):
            local = whole(value.local)
            if value.divided:
                local = torch.cat(mesh.data.gather(local))
            return torch.cat(mesh.feature.gather(local))
        return value.read() if isinstance(value, Streamed) else value.detach().clone()

    return {name: whole(value) for name, value in sorted(run.state.tensors().items())}


@contextmanager
def _as_launched(mesh: Mesh) -> Iterator[None]:
    """Makes accelerate use the existing processes, and drop what it keeps of the last run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the other processes, since the last bit of a product depends on it
    if mesh.device_mesh is not None:
        # The process group exists already, so nothing connects to this address.
        os.environ |= {"ACCELERATE_USE_CPU": "true", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
        AcceleratorState._reset_state()
        PartialState._reset_state()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
