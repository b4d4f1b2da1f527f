"""`accelerate launch` of the command line, as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")},
    "ACCELERATE_USE_CPU": "true",
    "OMP_NUM_THREADS": "1",
    "GLOO_SOCKET_IFNAME": "lo",
    "PYTHONPATH": str(ROOT),
}


def train_words(values: Mapping[str, object]) -> list[str]:
    """`distsae train` as a list of words."""
    return ["train", *(word for name, value in values.items() for word in (f"--{name}", str(value)))]


def launch(
    arguments: list[str], processes: int = 2, program: Sequence[str] = ("-m", "distsae")
) -> subprocess.CompletedProcess[str]:
    config = ROOT / "cluster_configs" / "cpu_2.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    return subprocess.run(
        [*command, "--num_processes", str(processes), *program, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=ENVIRONMENT,
        cwd=arguments[4].rsplit("/", 1)[0],
    )
