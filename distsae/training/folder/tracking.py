"""Tracking with wandb, through accelerate: each run has a wandb run of its own, and continues it when resumed."""

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
"""Function that logs the values of one line, given with their step."""


def start_tracking(accelerator: Accelerator, config: TrainConfig, member: str = "") -> Tracking:
    """Opens the wandb run of a run: a new one, or when the run is resumed the one that it had.

    With `wandb` auto, WANDB_MODE decides; without it, the run is online if the user is logged in, else offline.

    Args:
        accelerator: accelerator of this process, which closes the wandb run at the end.
        config: configuration of the run; its folder must exist.
        member: name of the run in its sweep, whose members share a wandb group; empty for a run alone.

    Returns:
        The function that logs to the wandb run.
    """
    if config.wandb == "off":
        return _ignore
    mode = config.wandb if config.wandb != "auto" else os.environ.get("WANDB_MODE", "auto")
    if accelerator.is_main_process and mode == "auto":
        mode = "online" if _logged_in() else "offline"
    options: dict[str, Any] = {"mode": mode, "dir": config.out, "settings": {"silent": True}}
    if accelerator.is_main_process:
        options |= {"id": RunFolder(config.out).tracking_id(), "resume": "allow"}
    if not member:
        accelerator.init_trackers("distsae", config=config.stored(), init_kwargs={"wandb": options})
        return cast("Tracking", accelerator.log)
    from accelerate.tracking import WandBTracker

    group = str(RunFolder(config.out).path.resolve().parent)
    options |= {"config": config.stored(), "name": member, "group": group, "reinit": "create_new"}
    tracker = WandBTracker("distsae", **options)  # `init_trackers` makes only one tracker of each kind
    tracker.start()
    accelerator.trackers.append(tracker)
    return cast("Tracking", tracker.log)


def _ignore(values: dict[str, Any], step: int) -> None:
    """Logs nothing, for a run whose tracking is off."""


def _logged_in() -> bool:
    import wandb

    return bool(wandb.login(prompt=False, verify=False))
