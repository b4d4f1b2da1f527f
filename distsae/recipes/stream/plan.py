"""What a stream starts: two launches with a config file each, and the GPUs that each of them sees."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from distsae.errors import WrongInput
from distsae.nested_keys import flat_keys
from distsae.parallel import MeshConfig
from distsae.producer import ProduceConfig
from distsae.producer.config import check
from distsae.recipes.from_keys import FromKeys
from distsae.recipes.local_launch import launch_words
from distsae.recipes.stream.config import StreamConfig
from distsae.recipes.stream.machines import Machines
from distsae.training import TrainConfig

__all__ = ["StreamPart", "StreamPlan", "planned"]

_KEEP_UNITS = 8
"""Units of the store on disk at a time: four are read while four are filled."""

_OF_THE_STREAM = {"produce": ("out",), "train": ("store", "out", "resume")}
"""Keys that the stream itself gives."""


@dataclass(frozen=True)
class StreamPart:
    """One launch of a stream.

    Args:
        name: `produce` or `train`.
        config: content of the config file of the command.
        file: the config file.
        processes: number of processes.
        beside: number of processes of the other launch.
        environment: variables that the launch has beside those of this process.
        machines: the machines that launch it together; None for this one alone.
    """

    name: str
    config: Mapping[str, Any]
    file: Path
    processes: int
    beside: int
    environment: Mapping[str, str]
    machines: Machines | None = None

    def command(self, restarts: int, grace: float) -> list[str]:
        """Returns the words of the supervised launch.

        Args:
            restarts: largest number of restarts after crashes.
            grace: seconds between a request to stop and a kill.
        """
        supervisor = [sys.executable, "-m", "distsae", "supervise", "--restarts", str(restarts), "--grace", str(grace)]
        options = launch_words if self.machines is None else self.machines.launch_words
        launch = options(self.processes, beside=self.beside)
        return [*supervisor, "--", *launch, "-m", "distsae", self.name, "--config", str(self.file)]


@dataclass(frozen=True)
class StreamPlan:
    """The producers and the training of a stream.

    Args:
        produce: the producers.
        train: the training.
        store: folder of the store between them.
    """

    produce: StreamPart
    train: StreamPart
    store: Path


def planned(config: StreamConfig, from_keys: FromKeys) -> StreamPlan:
    """Checks the keys of both commands, alone and against each other; nothing is written or started.

    Args:
        config: keys of the stream.
        from_keys: function that builds the configs of the two commands.

    Raises:
        WrongInput: a command would refuse its keys, they do not fit together, or there are too few GPUs.
    """
    out = Path(config.out)
    produce = {"keep_units": _KEEP_UNITS, **_own_keys("produce", config.produce), "out": str(out / "store")}
    train = {"wandb": "off", **_own_keys("train", config.train), "store": produce["out"], "out": str(out / "run")}
    if not any(key.startswith("mesh.") for key in train):
        train |= {"mesh.feature": config.trainers or 1, "mesh.data": config.machines}
    with _in("produce"):
        producing = from_keys(ProduceConfig, produce)
        check(producing)
        if producing.keep_units is None:
            raise WrongInput(
                "`keep_units` (=null) must be a number, so that the disk stays bounded; leave it out, or produce a "
                "whole store first with `distsae produce`"
            )
    with _in("train"):
        training = from_keys(TrainConfig, train)
    if training.hook is None and len(producing.hooks) == 1:
        training = dataclasses.replace(training, hook=producing.hooks[0])
    elif training.hook not in producing.hooks:
        raise WrongInput(
            f"train: `hook` (={training.hook}) must be one of the `hooks` in produce (={list(producing.hooks)}); name "
            "one of them"
        )
    trainers = _trainers(config, training.mesh)
    producers = config.producers
    gpus = _gpus(trainers, producers)
    described = _plain(dataclasses.asdict(producing))
    return StreamPlan(
        StreamPart("produce", described, out / "produce.yaml", producers, trainers, gpus[1]),
        StreamPart("train", training.stored(), out / "train.yaml", trainers, producers, gpus[0], _machines(config)),
        out / "store",
    )


def _machines(config: StreamConfig) -> Machines | None:
    if config.main_process_ip is None:
        return None
    return Machines(config.machines, config.machine_rank, config.main_process_ip, config.main_process_port)


def _trainers(config: StreamConfig, mesh: MeshConfig) -> int:
    """Returns the number of training processes on each machine.

    Raises:
        WrongInput: the mesh needs other processes than there are.
    """
    ranks = mesh.data * mesh.feature
    expected = ranks / config.machines if config.trainers is None else config.trainers
    if expected * config.machines != ranks or expected != int(expected):
        raise WrongInput(
            f"`trainers` (={config.trainers}) * `machines` (={config.machines}) must be `mesh.data` * `mesh.feature` "
            f"in train (={mesh.data} * {mesh.feature}); leave `trainers` out, or correct the mesh"
        )
    return int(expected)


def _own_keys(part: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of a command by dotted names; raises WrongInput for those that the stream gives."""
    flat = flat_keys(dict(keys))
    for key in _OF_THE_STREAM[part]:
        if key in flat:
            raise WrongInput(f"`{key}` must not be in {part}, because the stream gives it; leave it out")
    return flat


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values as YAML writes them."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _gpus(trainers: int, producers: int) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the variables that give the training and the producers GPUs of their own; none on a CPU.

    Raises:
        WrongInput: there are fewer GPUs than processes.
    """
    if not torch.cuda.is_available():
        return {}, {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    devices = visible.split(",")
    if trainers + producers > len(devices):
        raise WrongInput(
            f"`producers` (={producers}) and `trainers` (={trainers}) must together be at most the number of GPUs; got "
            f"{len(devices)}; use fewer, or produce a whole store first with `distsae produce`"
        )
    return (
        {"CUDA_VISIBLE_DEVICES": ",".join(devices[:trainers])},
        {"CUDA_VISIBLE_DEVICES": ",".join(devices[trainers : trainers + producers])},
    )


@contextmanager
def _in(part: str) -> Iterator[None]:
    """Names the command in errors about its keys."""
    try:
        yield
    except WrongInput as error:
        raise WrongInput(f"{part}: {error}") from None
