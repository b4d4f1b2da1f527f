"""The names in `RUN/checkpoints`, and how to tidy up after a process that died.

```
step-00001000/                   a published checkpoint
latest                           the name of the one published last, for people and scripts
.step-00001000-UUID/             being written
.replaced-step-00001000-UUID/    the old checkpoint of a step while the new one takes its name
.removed-step-00001000-UUID/     being deleted
.abandoned-step-00001000-UUID/   of a line that the run has left by going back
.latest-UUID                     `latest` being written
```
"""

from __future__ import annotations

import contextlib
import re
import shutil
import uuid
from pathlib import Path

__all__ = ["LATEST", "checkpoints", "clean_up", "set_aside", "step_name", "step_of", "temporary_name"]

LATEST = "latest"

_STEP = re.compile(r"(?P<old>\.replaced-)?(?P<name>step-(?P<step>\d{8,}))(?(old)-[0-9a-f]{32})")


def step_name(step: int) -> str:
    """Returns the folder name of a step's checkpoint."""
    return f"step-{step:08d}"


def temporary_name(step: int) -> str:
    """Returns a fresh name to write a step's checkpoint under."""
    return f".{step_name(step)}-{uuid.uuid4().hex}"


def step_of(path: Path) -> int | None:
    """Returns the step of a published checkpoint's folder, None for any other path."""
    match = _STEP.fullmatch(path.name)
    return int(match["step"]) if match else None


def checkpoints(folder: Path) -> list[Path]:
    """Returns the published checkpoints, sound or not, oldest step first.

    One that was being replaced when its process died is listed under its set-aside name.
    """
    if not folder.is_dir():
        return []
    matches = [(match, path) for path in folder.iterdir() if (match := _STEP.fullmatch(path.name))]
    found = {match["name"]: path for match, path in matches if match["old"]}
    found.update({match["name"]: path for match, path in matches if not match["old"]})
    return sorted(found.values(), key=lambda path: step_of(path) or 0)


def set_aside(path: Path, word: str) -> Path:
    """Renames a checkpoint to `.WORD-NAME-UUID`, in one step, and returns its new path."""
    return path.rename(path.with_name(f".{word}-{path.name}-{uuid.uuid4().hex}"))


def clean_up(folder: Path) -> None:
    """Removes what a process that died left half-done, and gives a checkpoint it was replacing its name back.

    To be called by one process, when no other one saves or prunes.
    """
    for path in checkpoints(folder):
        if path.name.startswith(".replaced-"):
            path.rename(folder / step_name(step_of(path) or 0))
    for path in folder.iterdir():
        # What cannot be deleted now, since somebody reads it over a network perhaps, must not keep a run from saving.
        if path.name.startswith((".step-", ".replaced-step-", ".removed-step-")):
            shutil.rmtree(path, ignore_errors=True)
        elif path.name.startswith(f".{LATEST}-"):
            with contextlib.suppress(OSError):
                path.unlink()
