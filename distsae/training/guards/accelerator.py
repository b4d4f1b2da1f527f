"""Starting under `accelerate launch`: one accelerator, checked, with tracking."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist

from distsae.errors import WrongInput
from distsae.parallel import MeshConfig
from distsae.training.config import TrainConfig
from distsae.training.folder.run_folder import RunFolder

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Tracking", "check_processes", "longest_wait", "start_accelerator", "start_tracking", "wait_for"]

Tracking = Callable[[dict[str, Any], int], None]

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


def start_tracking(accelerator: Accelerator, config: TrainConfig, member: str = "") -> Tracking:
    """Opens a wandb run, online when the user is logged in and `wandb` is auto; a resumed run goes on in its own.

    Args:
        accelerator: closes it at the end.
        config: the run, whose folder is there.
        member: name of the run in a sweep, whose members have a wandb run each, in one group.

    Returns:
        What logs to it, given values and their step.
    """
    if config.wandb == "off":
        return _nowhere
    mode = config.wandb if config.wandb != "auto" else os.environ.get("WANDB_MODE", "auto")
    if accelerator.is_main_process and mode == "auto":
        mode = "online" if _logged_in() else "offline"
    wanted: dict[str, Any] = {"mode": mode, "dir": config.out, "settings": {"silent": True}}
    if accelerator.is_main_process:
        wanted |= {"id": RunFolder(config.out).tracking_id(), "resume": "allow"}
    if not member:
        accelerator.init_trackers("distsae", config=config.stored(), init_kwargs={"wandb": wanted})
        return cast("Tracking", accelerator.log)
    from accelerate.tracking import WandBTracker

    group = str(RunFolder(config.out).path.resolve().parent)
    wanted |= {"config": config.stored(), "name": member, "group": group, "reinit": "create_new"}
    tracker = WandBTracker("distsae", **wanted)  # accelerate itself has one of a kind
    tracker.start()
    accelerator.trackers.append(tracker)
    return cast("Tracking", tracker.log)


def _nowhere(values: dict[str, Any], step: int) -> None:
    """Tracking that is off."""


def _logged_in() -> bool:
    import wandb

    return bool(wandb.login(prompt=False, verify=False))
