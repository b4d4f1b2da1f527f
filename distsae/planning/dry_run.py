"""`distsae train --dry_run`: the checks that training starts with, and then a plan instead of training."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from distsae.batches import BatchReader
from distsae.environment import cpu_is_asked_for
from distsae.errors import WrongInput
from distsae.kernels import prefilter_wanted
from distsae.planning.gpu import CUDA_LIBRARIES_BYTES
from distsae.planning.items import Facts, MemoryKind, peak
from distsae.planning.largest import Memory, fits, largest_d_sae
from distsae.planning.machine import memory_here, process_bytes
from distsae.planning.measured_rates import read_rates
from distsae.planning.memory import memory_items
from distsae.planning.step_seconds import StepSeconds, not_measured, step_seconds
from distsae.planning.step_shape import shape_of
from distsae.planning.step_table import step_table
from distsae.planning.wording import gib, memory_table
from distsae.store import Store
from distsae.store.layout import DTYPES
from distsae.training import TrainConfig
from distsae.training.train import checked

__all__ = ["PlannedDevice", "dry_run", "facts_of"]

PlannedDevice = Literal["auto", "cpu", "cuda"]


def dry_run(
    config: TrainConfig, memory_gb: float | None = None, device: PlannedDevice = "auto", check: str | None = None
) -> str:
    """Returns the plan of a run as text: its memory, and its time if a check is given. It writes nothing.

    Args:
        config: config of the run; its mesh may have any number of processes.
        memory_gb: GiB that each process has, on its GPU if there is one; by default the memory that is free here.
        device: device that is planned for, which this machine need not have; `auto` is a GPU if there is one here.
        check: file of `distsae check --json` on such a machine, from which the time of a step follows.

    Raises:
        WrongInput: training would refuse the config, `memory_gb` is not positive, or it is missing where `device` is
            not on this machine; or `check` does not tell the time of a step.
    """
    if memory_gb is not None and not memory_gb > 0:
        raise WrongInput(f"`memory_gb` (={memory_gb}) must be positive; give the GiB that each process has")
    gpu_here = torch.cuda.is_available()
    gpu = gpu_here and not cpu_is_asked_for() if device == "auto" else device == "cuda"
    if gpu and not gpu_here and memory_gb is None:
        raise WrongInput(
            "`device` (=cuda) must come with `memory_gb` on a machine without a GPU; got none; give the GiB of one "
            "GPU, such as --memory_gb 80"
        )
    rates = None if check is None else read_rates(check)
    store, configs = checked(config)
    runs = list(configs.values())
    facts = facts_of(store, runs[0], gpu=gpu)
    items = memory_items(runs, facts)
    mesh = config.mesh
    processes = mesh.data * mesh.feature
    memory = memory_here(processes, gpu=gpu) if memory_gb is None else _given(memory_gb, processes, facts)
    lines = [
        f"memory of the first rank; d_sae {' '.join(str(run.sae.d_sae) for run in runs)}, d_in {facts.d_in}, mesh "
        f"{mesh.data} x {mesh.feature} (data x feature), engine {config.engine}",
        "",
    ]
    if facts.gpu:
        lines += ["on the GPU", *memory_table(items, "device"), "", "in the host's memory"]
    lines += [*memory_table(items, "host"), ""]
    host_peak = gib(peak(items, "host"))
    if facts.gpu:
        lines.append(f"peak: {gib(peak(items, 'device'))} on the GPU, {host_peak} on the host")
    else:
        lines.append(f"peak: {host_peak}")
    available = [] if memory.device is None else [f"{gib(memory.device)} on the GPU"]
    if not facts.gpu or memory_gb is None:
        plural = "es" if memory.processes > 1 else ""
        available.append(f"{gib(memory.host)} for {memory.processes} process{plural} on the host")
    verdict = "it fits" if fits(items, memory) else "it does not fit"
    lines.append(f"available: {', '.join(available)}: {verdict}")
    lines += [line for way in (_without_copies, _with_divided_moments) if (line := way(runs, facts, memory))]
    if not config.sweep.d_sae:
        lines.append(f"largest sae.d_sae that fits, all else as given: {largest_d_sae(runs, facts, memory):,}")
    if rates is not None:
        members = [
            step_seconds(shape_of(run, facts.d_in, gpu=facts.gpu), facts.storage_bytes, rates, gpu=facts.gpu)
            for run in runs
        ]
        lines += ["", *step_table(StepSeconds.joined(members), rates, not_measured(config))]
    return "\n".join(lines)


def facts_of(store: Store, config: TrainConfig, gpu: bool | None = None) -> Facts:
    """Returns the facts about the store and the machine that the plan of a run needs; `config.hook` is not None.

    Args:
        store: store that is read.
        config: config of the run.
        gpu: whether a GPU trains, which this machine need not have; by default one does if there is one here.
    """
    assert config.hook is not None
    gpu_here = torch.cuda.is_available()
    gpu = gpu_here and not cpu_is_asked_for() if gpu is None else gpu
    elsewhere = gpu and not gpu_here  # its GPU is taken to multiply bf16 natively, as all of the last years do
    measured_on = torch.device("cuda" if gpu and gpu_here else "cpu")
    reader = BatchReader(
        store, config.hook, config.batch_tokens, config.seed_of_order, 0, config.mesh.data, config.normalise
    )
    try:
        reader_bytes = reader.memory_bytes(gpu=gpu)
    finally:
        reader.close()
    return Facts(
        d_in=store.d_in(config.hook),
        storage_bytes=DTYPES[store.attributes.dtype].torch.itemsize,
        heldout_rows=store.heldout_rows,
        reader_bytes=reader_bytes,
        process_bytes=process_bytes(replace(config, kernels="auto") if elsewhere else config, measured_on),
        gpu=gpu,
        prefilter=config.prefilter != "none" if elsewhere else prefilter_wanted(config.prefilter, measured_on),
        cuda_libraries_bytes=CUDA_LIBRARIES_BYTES if elsewhere else 0,
    )


def _without_copies(runs: list[TrainConfig], facts: Facts, memory: Memory) -> str:
    """Returns a line on the memory that saving without copies would spare, if memory is short; else an empty string."""
    items = memory_items(runs, facts)
    waiting = [replace(run, checkpoint=replace(run.checkpoint, asynchronous=False)) for run in runs]
    items_waiting = memory_items(waiting, facts)
    saved = peak(items, "host") - peak(items_waiting, "host")
    if fits(items, memory) or saved <= 0:
        return ""
    then = "then it fits" if fits(items_waiting, memory) else "which is not enough"
    return f"`--checkpoint.asynchronous false` would save {gib(saved)} on the host: {then}"


def _with_divided_moments(runs: list[TrainConfig], facts: Facts, memory: Memory) -> str:
    """Returns a line on the memory that dividing Adam's moments would spare, if memory is short; or an empty string."""
    items = memory_items(runs, facts)
    if runs[0].engine != "plain" or runs[0].optimizer.divide_moments or fits(items, memory):
        return ""
    divided = [replace(run, optimizer=replace(run.optimizer, divide_moments=True)) for run in runs]
    items_divided = memory_items(divided, facts)
    where: MemoryKind = "device" if facts.gpu else "host"
    saved = peak(items, where) - peak(items_divided, where)
    if saved <= 0:
        return ""
    then = "then it fits" if fits(items_divided, memory) else "which is not enough"
    return f"`--optimizer.divide_moments true` would save {gib(saved)} on each data rank: {then}"


def _given(memory_gb: float, processes: int, facts: Facts) -> Memory:
    """Returns the memory that the user has given; if it is that of GPUs, the host has enough."""
    each = round(memory_gb * 2**30)
    return Memory(1 << 62, processes, each) if facts.gpu else Memory(each * processes, processes)
