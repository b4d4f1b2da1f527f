"""Tracking with wandb: each run has a wandb run of its own, and continues it when resumed.

`metrics.jsonl` is the record of a run, and wandb a copy of it. A process that was killed leaves a copy that lacks its
last lines, or has lines of steps that are done again; so a resumed run first sends the lines that are missing, and
sends no step twice. Whatever goes wrong in wandb once it is open ends no run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from distsae.errors import WrongInput
from distsae.progress import say
from distsae.training.config import TrainConfig
from distsae.training.folder.run_folder import RunFolder
from distsae.training.folder.wandb_history import last_step

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Tracking", "start_tracking"]

Tracking = Callable[[dict[str, Any], int], None]
"""Function that logs the values of one line, given with their step."""


def start_tracking(accelerator: Accelerator, config: TrainConfig, member: str = "") -> Tracking:
    """Opens the wandb run of a run: a new one, or when the run is resumed the one that it had. Collective.

    With `wandb` auto, WANDB_MODE decides; without it, the run is online if the user is logged in, else offline. If the
    wandb run cannot be opened, auto trains without.

    Args:
        accelerator: accelerator of this process, which closes the wandb run at the end.
        config: configuration of the run; its folder must exist.
        member: name of the run in its sweep, whose members share a wandb group; empty for a run alone.

    Returns:
        The function that logs to the wandb run; on all processes but the main one it does nothing.

    Raises:
        WrongInput: on every process: `wandb` is online or offline, and the wandb run cannot be opened.
    """
    if config.wandb == "off":
        return _ignore
    from accelerate.utils import broadcast_object_list

    opened: _WandbRun | None = None
    reason = ""
    if accelerator.is_main_process:
        with _Contained() as contained:
            opened = _WandbRun(config, member)
        reason = contained.reason
    (reason,) = broadcast_object_list([reason])
    if opened is not None:
        accelerator.trackers.append(opened)
        return opened.log
    if reason and config.wandb == "auto":
        say(f"warning: wandb cannot be used ({reason}); training goes on without it")
    elif reason:
        raise WrongInput(
            f"`wandb` (={config.wandb}) must be able to write into {config.out} and, online, to reach its server; got "
            f"{reason}; repair that, or use off"
        )
    return _ignore


class _Contained:
    """A block of calls of wandb, whose errors end with it: they are of dozens of classes without a common base.

    Attributes:
        reason: the error in one line; empty if there was none.
    """

    reason = ""

    def __enter__(self) -> _Contained:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception):
            self.reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
            if isinstance(error, ModuleNotFoundError):
                self.reason += f"; `pip install {error.name}` installs it"
        return isinstance(error, Exception)


class _WandbRun:
    """The wandb run of one run, as a tracker of accelerate; its methods never raise.

    Args:
        config: configuration of the run; its folder must exist.
        member: name of the run in its sweep; empty for a run alone.
    """

    def __init__(self, config: TrainConfig, member: str) -> None:
        import wandb

        folder = RunFolder(config.out)
        (folder.path / "wandb").mkdir(exist_ok=True)  # else wandb would write into a temporary folder
        if not os.access(folder.path / "wandb", os.W_OK):
            raise PermissionError(f"{folder.path / 'wandb'} cannot be written to")
        mode = config.wandb if config.wandb != "auto" else os.environ.get("WANDB_MODE", "auto")
        if mode == "auto":
            mode = "online" if wandb.login(prompt=False, verify=False) else "offline"
        if mode == "online" and not wandb.login(prompt=False, verify=False):
            raise PermissionError("nobody is logged in; run `wandb login`, or set WANDB_API_KEY")
        identity = folder.tracking_id()
        self._sent = last_step(folder.path, identity)
        options: dict[str, Any] = {"mode": mode}
        if member:
            options |= {"name": member, "group": str(folder.path.resolve().parent), "reinit": "create_new"}
        self.tracker = wandb.init(
            project="distsae",
            dir=str(folder.path),
            settings=wandb.Settings(silent=True),
            id=identity,
            resume="allow",
            config=config.stored(),
            **options,
        )
        if mode == "online":
            self._sent = self.tracker.step - 1  # the server knows what has reached it
        self._working = True
        for line in folder.metrics.lines():
            self.log({name: value for name, value in line.items() if isinstance(value, int | float)}, line["step"])

    def log(self, values: dict[str, Any], step: int) -> None:
        """Sends the values of a step, unless wandb has that step."""
        if not self._working or step <= self._sent:
            return
        with _Contained() as contained:
            self.tracker.log(values, step=step)
        self._sent = step
        if contained.reason:
            self._working = False
            say(f"warning: wandb has failed ({contained.reason}); the run goes on without it")

    def finish(self) -> None:
        """Closes the wandb run."""
        with _Contained() as contained:
            self.tracker.finish()
        if contained.reason:
            say(f"warning: the wandb run could not be closed ({contained.reason})")


def _ignore(values: dict[str, Any], step: int) -> None:
    """Logs nothing, for a run whose tracking is off."""
