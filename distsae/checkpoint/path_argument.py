"""Which checkpoints a path means that the user has given to a command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distsae.checkpoint.inspecting import look
from distsae.checkpoint.manifest import MANIFEST_NAME
from distsae.checkpoint.names import checkpoints, step_of
from distsae.errors import TornData, WrongInput
from distsae.store.mounted_path import mounted_path

__all__ = ["CheckpointPath", "choose_step", "choose_whole", "resolve_path"]

_SHOWN = 8


@dataclass(frozen=True)
class CheckpointPath:
    """What a path means.

    Args:
        folder: folder of checkpoints, `RUN/checkpoints`.
        checkpoint: the checkpoint in `folder` that the path names; None if it names the run or `folder`.
    """

    folder: Path
    checkpoint: Path | None


def resolve_path(text: str) -> CheckpointPath:
    """Returns what a path means: a run, its folder of checkpoints, or one checkpoint.

    Raises:
        WrongInput: the path means none of these, or a run that has saved nothing yet.
    """
    path = mounted_path(text, "run")
    path = path if path.name else path.absolute()  # `.` has no name and no parent
    if not path.is_dir():
        raise WrongInput(
            f"`run` (={path}) must be the folder of a run or of a checkpoint; got "
            f"{'a file' if path.exists() else 'nothing there'}; give a folder such as runs/mc"
        )
    if step_of(path) is not None or (path / MANIFEST_NAME).is_file():
        return CheckpointPath(path.parent, path)
    for folder in (path / "checkpoints", path):
        listing = look(folder)
        if listing.entries or listing.leftovers or listing.latest is not None:
            return CheckpointPath(folder, None)
    if (path / "config.yaml").is_file() or path.name == "checkpoints" or (path / "checkpoints").is_dir():
        raise _nothing_saved(path)
    if members := _sweep_members(path):
        raise WrongInput(
            f"`run` (={path}) must be one run; got the folder of a sweep, with {_first_names(members)}; "
            f"choose one of them, such as {path / members[0]}"
        )
    raise WrongInput(
        f"`run` (={path}) must be the folder of a run or of a checkpoint; got a folder that is neither; "
        "give the `out` of distsae train"
    )


def choose_step(folder: Path, step: int) -> Path:
    """Returns the checkpoint of a step.

    Raises:
        WrongInput: there is no such checkpoint; the text names the nearest steps.
    """
    by_step = {saved: path for path in checkpoints(folder) if (saved := step_of(path)) is not None}
    if step in by_step:
        return by_step[step]
    if not by_step:
        raise _nothing_saved(folder)
    before = [saved for saved in by_step if saved < step]
    after = [saved for saved in by_step if saved > step]
    nearest = map(str, [*before[-1:], *after[:1]])
    raise WrongInput(
        f"`step` (={step}) must be the step of a checkpoint in {folder}; got {len(by_step)} checkpoints of other "
        f"steps; choose the nearest: {' or '.join(nearest)}"
    )


def choose_whole(folder: Path) -> Path:
    """Returns the newest checkpoint that looks whole.

    Raises:
        WrongInput: there are no checkpoints.
        TornData: no checkpoint looks whole; the text says what is wrong with the newest.
    """
    listing = look(folder)
    if listing.newest is not None:
        return listing.newest.path
    if not listing.entries:
        raise _nothing_saved(folder)
    newest = listing.entries[-1]
    raise TornData(f"{folder}: none of {len(listing.entries)} checkpoints looks whole; {newest.faults[0]}")


def _nothing_saved(path: Path) -> WrongInput:
    return WrongInput(
        f"`run` (={path}) must have checkpoints; got none yet; "
        "look again after the first one is due (`checkpoint.every`)"
    )


def _sweep_members(path: Path) -> list[str]:
    return sorted(member.name for member in path.iterdir() if (member / "checkpoints").is_dir())


def _first_names(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
