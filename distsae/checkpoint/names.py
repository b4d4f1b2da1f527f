"""The names in `RUN/checkpoints`, and how to clean up after a process that died.

```
step-00001000/                   a published checkpoint
latest                           the name of the checkpoint published last, for users and scripts
.step-00001000-UUID/             a checkpoint that is being written
.replaced-step-00001000-UUID/    the old checkpoint of a step, while the new one takes its name
.removed-step-00001000-UUID/     a checkpoint that is being deleted
.abandoned-step-00001000-UUID/   a checkpoint later than the one that the run was resumed from
.latest-UUID                     `latest` while it is being written
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
    """Returns the folder name of the checkpoint of a step."""
    return f"step-{step:08d}"


def temporary_name(step: int) -> str:
    """Returns a fresh folder name to write the checkpoint of a step under."""
    return f".{step_name(step)}-{uuid.uuid4().hex}"


def step_of(path: Path) -> int | None:
    """Returns the step of a checkpoint, published or set aside to be replaced; None for any other path."""
    match = _STEP.fullmatch(path.name)
    return int(match["step"]) if match else None


def checkpoints(folder: Path) -> list[Path]:
    """Returns the published checkpoints, sound or not, lowest step first.

    A checkpoint that was being replaced when its process died is listed under its set-aside name.
    """
    if not folder.is_dir():
        return []
    matches = [(match, path) for path in folder.iterdir() if (match := _STEP.fullmatch(path.name))]
    found = {match["name"]: path for match, path in matches if match["old"]}
    found.update({match["name"]: path for match, path in matches if not match["old"]})
    return sorted(found.values(), key=lambda path: step_of(path) or 0)


def set_aside(path: Path, word: str) -> Path:
    """Renames a checkpoint in one step to `.WORD-NAME-UUID` and returns its new path."""
    return path.rename(path.with_name(f".{word}-{path.name}-{uuid.uuid4().hex}"))


def clean_up(folder: Path) -> None:
    """Removes what a process that died left unfinished; a checkpoint that it was replacing gets its name back.

    One process calls this, while no process saves or prunes.
    """
    for path in checkpoints(folder):
        if path.name.startswith(".replaced-"):
            path.rename(folder / step_name(step_of(path) or 0))
    for path in folder.iterdir():
        # A leftover that cannot be deleted now, perhaps because another machine is reading it, must not prevent a save.
        if path.name.startswith((".step-", ".replaced-step-", ".removed-step-")):
            shutil.rmtree(path, ignore_errors=True)
        elif path.name.startswith(f".{LATEST}-"):
            with contextlib.suppress(OSError):
                path.unlink()
