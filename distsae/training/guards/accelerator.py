"""Starting under `accelerate launch`: one accelerator, checked."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from distsae.errors import WrongInput
from distsae.parallel import MeshConfig
from distsae.training.config import TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["check_processes", "longest_wait", "start_accelerator", "wait_for"]

_EVER = timedelta(days=365)
_EARLIER = timedelta(seconds=60)
"""By which the watchdog, which says more, comes before torch's own time limit."""


def check_processes(mesh: MeshConfig) -> None:
    """Refuses a mesh that the launched processes cannot fill, before anything is set up.

    Raises:
        WrongInput: `mesh.data * mesh.feature` differs from the number of processes.
    """
    wanted, processes = mesh.data * mesh.feature, int(os.environ.get("WORLD_SIZE", "1"))
    if wanted != processes:
        raise WrongInput(
            f"`mesh.data` * `mesh.feature` (={mesh.data} * {mesh.feature}) must equal the number of processes; got "
            f"{processes}; start {wanted} with `accelerate launch --num_processes {wanted} ... -m distsae train ...` "
            "(on CPU with a config file such as cluster_configs/cpu_2.yaml), or change the mesh"
        )


def longest_wait(hang_seconds: float | None, bounded: bool) -> timedelta:
    """Returns how long a rank waits for another one in torch's collectives.

    Args:
        hang_seconds: after which the watchdog ends a process that stands still.
        bounded: whether one rank may wait for the rows of a bounded store, as long as its producers take, while
            another waits for that rank.
    """
    if hang_seconds is None or bounded:
        return _EVER
    return timedelta(seconds=hang_seconds) + max(_EARLIER, timedelta(seconds=hang_seconds / 10))


def wait_for(longest: timedelta, groups: Iterable[dist.ProcessGroup | None]) -> None:
    """Sets how long this rank waits in the collectives of groups; without it torch has limits of its own for each."""
    for group in groups:
        if group is not None:
            dist.distributed_c10d._set_pg_timeout(longest, group)


def start_accelerator(config: TrainConfig, longest: timedelta = _EVER) -> Accelerator:
    """Returns the accelerator of this process, with wandb tracking on the main one unless it is off.

    Args:
        config: the run.
        longest: how long a rank waits for another one.

    Raises:
        WrongInput: accelerate sees another number of processes than were launched.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs

    check_processes(config.mesh)
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        log_with=None if config.wandb == "off" else "wandb",
        project_dir=config.out,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=longest)],
    )
    # Accelerate may turn it on with a compiler configured; scores and gradients are fp32 here.
    torch.backends.cuda.matmul.allow_tf32 = False
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != launched:
        raise WrongInput(
            f"accelerate sees {accelerator.num_processes} process(es) of {launched} launched; on CPU its config file "
            "must say `distributed_type: MULTI_GPU`, `use_cpu: true` and `rdzv_backend: static`, as "
            "cluster_configs/cpu_2.yaml does"
        )
    return accelerator
