"""Starting under `accelerate launch`: one accelerator, checked, with tracking."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import torch

from distsae.errors import WrongInput
from distsae.parallel import MeshConfig
from distsae.training.config import TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["check_processes", "start_accelerator"]


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


def start_accelerator(config: TrainConfig) -> Accelerator:
    """Returns the accelerator of this process, with wandb tracking on the main one unless it is off.

    Raises:
        WrongInput: accelerate sees another number of processes than were launched.
    """
    from accelerate import Accelerator

    check_processes(config.mesh)
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(), log_with=None if config.wandb == "off" else "wandb", project_dir=config.out
    )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != launched:
        raise WrongInput(
            f"accelerate sees {accelerator.num_processes} process(es) of {launched} launched; on CPU its config file "
            "must say `distributed_type: MULTI_GPU`, `use_cpu: true` and `rdzv_backend: static`, as "
            "cluster_configs/cpu_2.yaml does"
        )
    return accelerator


def start_tracking(accelerator: Accelerator, config: TrainConfig) -> None:
    """Opens the wandb run, online when the user is logged in and `wandb` is auto."""
    if config.wandb == "off":
        return
    mode = config.wandb if config.wandb != "auto" else os.environ.get("WANDB_MODE", "auto")
    if accelerator.is_main_process and mode == "auto":
        mode = "online" if _logged_in() else "offline"
    accelerator.init_trackers(
        "distsae",
        config=dataclasses.asdict(config),
        init_kwargs={"wandb": {"mode": mode, "dir": config.out, "settings": {"silent": True}}},
    )


def _logged_in() -> bool:
    import wandb

    return bool(wandb.login(prompt=False, verify=False))
