"""Which checkpoint or checkpoints a path means that a person has typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distsae.checkpoint.inspecting import look
from distsae.checkpoint.manifest import OWN_FILES
from distsae.checkpoint.names import checkpoints, step_of
from distsae.errors import TornData, WrongInput

__all__ = ["CheckpointPath", "choose_step", "choose_whole", "find"]

_SHOWN = 8


@dataclass(frozen=True)
class CheckpointPath:
    """What a path means.

    Args:
        folder: a folder of checkpoints, `RUN/checkpoints`.
        checkpoint: the one in it that the path names; None if it names the run or the folder.
    """

    folder: Path
    checkpoint: Path | None


def find(text: str) -> CheckpointPath:
    """Finds what a path names: a run, its folder of checkpoints, or one checkpoint.

    Raises:
        WrongInput: it names none of them, or a run that has saved nothing.
    """
    path = Path(text).expanduser()
    path = path if path.name else path.absolute()  # `.`, which has no parent
    if not path.is_dir():
        raise WrongInput(
            f"`run` (={path}) must be the folder of a run or of a checkpoint; got "
            f"{'a file' if path.exists() else 'nothing there'}; name one, such as runs/mc"
        )
    if step_of(path) is not None or (path / OWN_FILES[0]).is_file():
        return CheckpointPath(path.parent, path)
    run = (path / "config.yaml").is_file()
    for folder in (path / "checkpoints", path):
        listing = look(folder)
        if listing.entries or listing.leftovers or listing.latest is not None:
            return CheckpointPath(folder, None)
    if run or path.name == "checkpoints" or (path / "checkpoints").is_dir():
        raise _nothing_saved(path)
    if members := _members(path):
        raise WrongInput(
            f"`run` (={path}) must be one run; got the folder of a sweep, with {_words(members)}; "
            f"name one of them, such as {path / members[0]}"
        )
    raise WrongInput(
        f"`run` (={path}) must be the folder of a run or of a checkpoint; got a folder that is neither; "
        "name the `out` of distsae train"
    )


def choose_step(folder: Path, step: int) -> Path:
    """Returns the checkpoint of a step.

    Raises:
        WrongInput: there is none; the steps nearest to it are named.
    """
    steps = {found: path for path in checkpoints(folder) if (found := step_of(path)) is not None}
    if step in steps:
        return steps[step]
    if not steps:
        raise _nothing_saved(folder)
    near = [*[found for found in steps if found < step][-1:], *[found for found in steps if found > step][:1]]
    raise WrongInput(
        f"`step` (={step}) must be that of a checkpoint in {folder}; got {len(steps)} of other steps; "
        f"the nearest to it: {', '.join(map(str, near))}"
    )


def choose_whole(folder: Path) -> Path:
    """Returns the newest checkpoint that looks whole.

    Raises:
        WrongInput: there are no checkpoints.
        TornData: none looks whole; what is wrong with the newest is said.
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
        "do look again when its first one is due (`checkpoint.every`)"
    )


def _members(path: Path) -> list[str]:
    return sorted(member.name for member in path.iterdir() if (member / "checkpoints").is_dir())


def _words(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
