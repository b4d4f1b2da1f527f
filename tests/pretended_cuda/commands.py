"""Runs commands of distsae in processes of their own, each with the pretended GPU."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from distsae.training import TrainConfig

__all__ = ["command_line", "run_commands"]

_ROOT = Path(__file__).parents[2]


def command_line(config: TrainConfig, **mesh: int) -> str:
    """Returns the command `train ...` of a config.

    Args:
        config: the config; of its mesh, the defaults.
        mesh: sizes of the axes of the mesh.
    """
    words = ["train"]
    for field in dataclasses.fields(config):
        value, default = getattr(config, field.name), field.default
        if dataclasses.is_dataclass(value):
            for inner in dataclasses.fields(value):
                if getattr(value, inner.name) != inner.default:
                    words.append(f"--{field.name}.{inner.name}={getattr(value, inner.name)}")
        elif value != default:
            words.append(f"--{field.name}={value}")
    return " ".join([*words, *(f"--mesh.{axis}={size}" for axis, size in mesh.items())])


def run_commands(folder: Path, commands: list[str], ranks: int = 1) -> list[dict[str, Any]]:
    """Runs commands one after another in processes that have the pretended GPU; returns the report of each rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = []
    for rank in range(ranks):
        place = {**job, "RANK": rank, "LOCAL_RANK": rank} if ranks > 1 else {}
        environment = os.environ | {name: str(value) for name, value in place.items()}
        for hidden in ("ACCELERATE_USE_CPU", "DS_ACCELERATOR"):  # another test of this process may have set them
            environment.pop(hidden, None)
        command = [sys.executable, "-m", "tests.pretended_cuda.program", str(folder / f"{rank}.json"), *commands]
        with (folder / f"{rank}.log").open("w") as log:
            processes.append(subprocess.Popen(command, env=environment, cwd=_ROOT, stdout=log, stderr=log))
    for rank, process in enumerate(processes):
        assert process.wait(500) == 0, (folder / f"{rank}.log").read_text()[-4000:]
    reports = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(ranks)]
    for rank, report in enumerate(reports):
        assert [done["code"] for done in report["commands"]] == [0] * len(commands), (
            folder / f"{rank}.log"
        ).read_text()[-4000:]
    return reports
