"""Setup under `accelerate launch`: the number of processes is checked, and collectives get one time limit.

torch ends a collective after a time limit of its own, with an error that names no rank. The limit set here is longer
than the watchdog's, so that the watchdog, which reports more, ends a stuck process first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from distsae.environment import check_interface, cpu_is_asked_for, launched_processes, whole_number
from distsae.errors import WrongInput
from distsae.parallel import MeshConfig
from distsae.training.config import TrainConfig
from distsae.training.guards.network import choose_network

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["check_processes", "longest_wait", "require_gpus", "set_timeout", "start_accelerator"]

_UNLIMITED = timedelta(days=365)
_LEAST_MARGIN = timedelta(seconds=60)
"""Least time between the watchdog's limit and torch's."""


def check_processes(mesh: MeshConfig) -> None:
    """Refuses a mesh that the launched processes cannot fill, before anything is set up.

    Raises:
        WrongInput: `mesh.data * mesh.feature` differs from the number of processes.
    """
    mesh.require_processes(launched_processes())


def require_gpus(gpus: int, environment: Mapping[str, str] = os.environ) -> None:
    """Refuses more processes on this machine than it has GPUs, which NCCL would refuse after minutes, or hang.

    Only processes of one launcher are counted. Others may each have been given a GPU of their own, all by the same
    number.

    Args:
        gpus: number of GPUs that this process sees.
        environment: variables by name.

    Raises:
        WrongInput: some GPU would have two processes.
    """
    processes = whole_number("LOCAL_WORLD_SIZE", 1, environment)
    if "TORCHELASTIC_RUN_ID" in environment and processes > gpus:
        raise WrongInput(
            f"the processes on this machine, `LOCAL_WORLD_SIZE` (={processes}), must have a GPU each; got {gpus}; "
            f"start at most {gpus} on a machine (`--num_processes`), or show them more GPUs (CUDA_VISIBLE_DEVICES)"
        )


def longest_wait(hang_seconds: float | None, bounded: bool) -> timedelta:
    """Returns how long a rank may wait for another one in a collective before torch raises an error.

    Args:
        hang_seconds: time limit of the watchdog; None for no limit.
        bounded: whether the store is bounded. A rank may then wait for new rows for as long as the producers take,
            while the other ranks wait for that rank in a collective.
    """
    if hang_seconds is None or bounded:
        return _UNLIMITED
    return timedelta(seconds=hang_seconds) + max(_LEAST_MARGIN, timedelta(seconds=hang_seconds / 10))


def set_timeout(longest: timedelta, groups: Iterable[dist.ProcessGroup | None]) -> None:
    """Sets how long this rank waits in the collectives of each group; None among the groups is skipped.

    A group that is left out keeps torch's default limit for its backend.
    """
    for group in groups:
        if group is not None:
            dist.distributed_c10d._set_pg_timeout(longest, group)


def start_accelerator(config: TrainConfig, longest: timedelta = _UNLIMITED) -> Accelerator:
    """Returns the accelerator of this process, set up for wandb tracking unless `wandb` is off.

    Args:
        config: configuration of the run.
        longest: longest time that a rank waits for another one in a collective.

    Raises:
        WrongInput: accelerate sees another number of processes than were launched, or cannot start as it was told.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs

    check_processes(config.mesh)
    on_gpu = torch.cuda.is_available() and not cpu_is_asked_for()
    if on_gpu:
        require_gpus(torch.cuda.device_count())
    if launched_processes() > 1:
        choose_network(on_gpu)
        check_interface()
    tracked = config.wandb != "off" and find_spec("wandb") is not None
    try:
        accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            log_with="wandb" if tracked else None,
            project_dir=config.out,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=longest)],
        )
    except (ValueError, RuntimeError) as error:
        given = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("ACCELERATE_")]
        if isinstance(error, RuntimeError) and "ACCELERATE_TORCH_DEVICE" not in os.environ:
            raise
        raise WrongInput(
            f"accelerate must be able to start; got {' '.join(str(error).split())[:200]}; start it with "
            "`accelerate launch`, and check its config file and the environment variables "
            f"{', '.join(given) or 'ACCELERATE_...'}"
        ) from error
    # Accelerate turns TF32 on when a compiler is configured; scores and gradients must stay fp32.
    torch.backends.cuda.matmul.allow_tf32 = False
    if accelerator.num_processes != launched_processes():
        raise WrongInput(
            f"accelerate must see all {launched_processes()} launched processes; got {accelerator.num_processes}; on "
            "CPU set `distributed_type: MULTI_GPU`, `use_cpu: true` and `rdzv_backend: static` in its config file, as "
            "cluster_configs/cpu_2.yaml does"
        )
    return accelerator
