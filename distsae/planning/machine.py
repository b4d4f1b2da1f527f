"""Measures the free memory of this machine, and what a process takes that has loaded the libraries of a run."""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path

import torch

from distsae.allocation import MutualSelector
from distsae.errors import WrongInput
from distsae.kernels import kernels_for
from distsae.model import FeatureShard
from distsae.parallel import MeshConfig, build_mesh
from distsae.planning.gpu import CONTEXT_BYTES
from distsae.planning.largest import Memory
from distsae.training import OptimizerConfig, PlainEngine, Selectors, TrainConfig, forward_backward
from distsae.training.engines.deepspeed_package import working_deepspeed

__all__ = ["memory_here", "process_bytes", "whole_memory"]

_CGROUP = Path("/sys/fs/cgroup/memory.max")


def memory_here(processes: int, *, gpu: bool) -> Memory:
    """Returns the memory that is free on this machine, including what this process itself holds.

    Args:
        processes: number of processes of the run. Without GPUs all of them are taken to run on this machine; with
            GPUs, one on each.
        gpu: whether they run on the GPUs of this machine.

    Raises:
        WrongInput: the system does not tell how much memory is free.
    """
    try:
        line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    except (OSError, StopIteration) as error:
        raise WrongInput(
            "`memory_gb` must be given on this system, which has no /proc/meminfo; give the GiB that each process has"
        ) from error
    host = int(line.split()[1]) * 1024 + _resident()
    host = _within_container(host)
    if not gpu:
        return Memory(host, processes)
    free, total = torch.cuda.mem_get_info()
    own = CONTEXT_BYTES + torch.cuda.memory_reserved()
    return Memory(host, min(processes, torch.cuda.device_count()), min(free + own, total))


def whole_memory() -> int:
    """Returns the bytes of memory and swap of this machine, or of the container; without limit if it does not tell."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        total = sum(int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "SwapTotal"))
    except (OSError, KeyError, ValueError):
        return 1 << 62
    return _within_container(total)


def process_bytes(config: TrainConfig, device: torch.device) -> int:
    """Returns the bytes that this process holds after loading the libraries of a run and one step of a tiny SAE."""
    importlib.import_module("accelerate")
    if config.wandb != "off":
        importlib.import_module("wandb")
    if config.engine == "deepspeed" and importlib.util.find_spec("deepspeed") is not None:
        with working_deepspeed(device):
            importlib.import_module("torch._dynamo")  # it loads the compiler, though it compiles nothing here
    kernels = kernels_for(config.kernels, device)
    shard = FeatureShard(32, 64, range(64), torch.zeros(32), 0, kernels=kernels, prefilter=True, device=device)
    mesh = build_mesh(MeshConfig(), 1, device.type)
    x = torch.randn(64, 32, device=device)
    outcome = forward_backward(shard, x, mesh, Selectors(MutualSelector(4)), shard.b_dec, 1.0, 0.0)
    PlainEngine(shard, mesh, OptimizerConfig()).update(outcome.gradients, 1e-3)
    return _resident()


def _within_container(host: int) -> int:
    limit = _CGROUP.read_text().strip() if _CGROUP.is_file() else "max"
    return host if limit == "max" else min(host, int(limit))


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
