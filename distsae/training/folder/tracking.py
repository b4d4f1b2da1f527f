"""Tracking with wandb, through accelerate: one run each, which a resumed run goes on in."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from distsae.training.config import TrainConfig
from distsae.training.folder.run_folder import RunFolder

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Tracking", "start_tracking"]

Tracking = Callable[[dict[str, Any], int], None]
"""Takes the numbers of a logged line, and their step."""


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
