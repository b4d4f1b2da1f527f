"""Which checkpoint to resume from, and which to keep."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from distsae.checkpoint.inspecting import look
from distsae.checkpoint.names import LATEST, checkpoints, set_aside, step_of
from distsae.checkpoint.ranks import Ranks
from distsae.checkpoint.verifying import verify
from distsae.durable import replace

__all__ = ["abandon_after", "newest", "prune"]


def newest(
    folder: Path, ranks: Ranks | None = None, on_read: Callable[[int], None] = lambda size: None
) -> tuple[Path | None, list[str]]:
    """Finds the sound checkpoint with the highest step, reading every byte of it.

    Args:
        folder: `RUN/checkpoints`; need not exist.
        ranks: that share the reading, and all get the same answer: on a shared file system two ranks may not see the
            same newest checkpoint, and a mixture of two steps would load without a word. None for this process alone.
        on_read: called with bytes as this process reads them.

    Returns:
        The checkpoint, None if there is none, and a line for each later one that was refused, with its name and the
        reason. One that was published last and has disappeared is among them.
    """
    ranks = ranks if ranks is not None else Ranks(None)
    listed = ranks.only_first(lambda: (checkpoints(folder), look(folder).disappeared))
    assert listed is not None
    found, disappeared = listed
    refused = [f"{disappeared} is refused: it is not there, though `{LATEST}` names it"] if disappeared else []
    for path in reversed(found):
        problems = verify(path, ranks, on_read)
        if not problems:
            return path, refused
        refused.append(f"{path.name} is refused: {'; '.join(problems)}")
    return None, refused


def abandon_after(folder: Path, step: int) -> list[Path]:
    """Renames the checkpoints of later steps to `.abandoned-...`, so that a run that went back does not find them.

    To be called by one process, while none saves.

    Returns:
        Their new paths.
    """
    before = checkpoints(folder)
    kept = [path for path in before if (step_of(path) or 0) <= step]
    if len(kept) < len(before):  # first what names them: it must not be taken for one that has disappeared
        if kept:
            replace(folder / LATEST, f"{kept[-1].name}\n".encode())
        else:
            (folder / LATEST).unlink(missing_ok=True)
    return [set_aside(path, "abandoned") for path in before[len(kept) :]]


def prune(folder: Path, keep_last: int, keep_every: int | None) -> None:
    """Deletes old checkpoints; to be called by one process, while none saves.

    Torn ones neither count nor are deleted: `newest` names them, and a person may want to look. What `latest` names is
    kept in any case.

    Args:
        folder: `RUN/checkpoints`.
        keep_last: how many of the highest steps to keep, at least 1.
        keep_every: also keep steps that are multiples of this; None keeps no others.
    """
    assert keep_last >= 1, "pruning must leave a checkpoint to resume from"
    listing = look(folder)
    whole = [entry.path for entry in listing.entries if entry.looks_whole]
    for path in whole[:-keep_last]:
        if path.name == listing.latest or (keep_every and (step_of(path) or 0) % keep_every == 0):
            continue
        # Renamed first: a process killed half-way through the deletion leaves no torn checkpoint.
        shutil.rmtree(set_aside(path, "removed"))
