"""`accelerate launch` on this machine alone: its options, and the variables that several processes need."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from distsae.recipes.demo_stages import launch_config

__all__ = ["launch_environment", "launch_words", "threads_of_a_process"]


def launch_words(processes: int, given: str | None = None, beside: int = 0) -> Sequence[str]:
    """Returns the options of `accelerate launch` for a number of processes on this machine.

    Args:
        processes: number of processes.
        given: config file of accelerate; None for one that fits this machine.
        beside: number of processes of another launch that share the cores of this machine.
    """
    if given is not None:
        return ["--config_file", given, "--num_processes", str(processes)]
    threads = threads_of_a_process(processes + beside)
    words = ["--num_processes", str(processes), "--num_cpu_threads_per_process", threads]
    if processes > 1 and not torch.cuda.is_available():
        return ["--config_file", str(launch_config()), *words]
    words += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    if processes > 1:
        return ["--multi_gpu", *words]
    return words if torch.cuda.is_available() else ["--cpu", *words]


def threads_of_a_process(processes: int) -> str:
    """Returns the number of threads for each of the processes that share this machine's cores, as an option has it."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return asked or str(max((os.cpu_count() or 1) // processes, 1))


@contextmanager
def launch_environment(processes: int, machines: int = 1) -> Iterator[None]:
    """Sets the variables that several processes on a CPU need, while the block runs.

    Args:
        processes: number of processes on this machine.
        machines: number of machines with such processes.
    """
    added: dict[str, str] = {}
    if processes * machines > 1 and not torch.cuda.is_available():
        added["ACCELERATE_USE_CPU"] = "true"
        if machines == 1 and "GLOO_SOCKET_IFNAME" not in os.environ and Path("/sys/class/net/lo").exists():
            added["GLOO_SOCKET_IFNAME"] = "lo"  # the name of the host may not resolve
    earlier = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in earlier.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
