"""Which checkpoint a run resumes from, and which checkpoints it keeps."""

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
    """Finds the sound checkpoint with the highest step, and reads every byte of it. Collective.

    Args:
        folder: folder of checkpoints, `RUN/checkpoints`; need not exist.
        ranks: ranks that share the reading and all get the same answer. If each chose for itself, two ranks could see
            different newest checkpoints on a shared file system, and a mixture of two steps would load without an
            error. None for this process alone.
        on_read: called with the number of bytes whenever this process has read some.

    Returns:
        The checkpoint, or None; and a line for each later checkpoint that was refused, with its name and the reason.
        A checkpoint that was published last and has disappeared is one of those.
    """
    ranks = ranks if ranks is not None else Ranks(None)
    listed = ranks.only_first(lambda: (checkpoints(folder), look(folder).disappeared))
    assert listed is not None
    paths, disappeared = listed
    refused = [f"{disappeared} is refused: it is not there, though `{LATEST}` names it"] if disappeared else []
    for path in reversed(paths):
        problems = verify(path, ranks, on_read)
        if not problems:
            return path, refused
        refused.append(f"{path.name} is refused: {'; '.join(problems)}")
    return None, refused


def abandon_after(folder: Path, step: int) -> list[Path]:
    """Renames the checkpoints of steps after `step` to `.abandoned-...`, so that a run that went back ignores them.

    One process calls this, while no process saves.

    Returns:
        The new paths of the renamed checkpoints.
    """
    before = checkpoints(folder)
    kept = [path for path in before if (step_of(path) or 0) <= step]
    if len(kept) < len(before):
        # `latest` changes first, so that it never names a checkpoint that has been renamed: `newest` would report that
        # one as disappeared.
        if kept:
            replace(folder / LATEST, f"{kept[-1].name}\n".encode())
        else:
            (folder / LATEST).unlink(missing_ok=True)
    return [set_aside(path, "abandoned") for path in before[len(kept) :]]


def prune(folder: Path, keep_last: int, keep_every: int | None) -> None:
    """Deletes old checkpoints. One process calls this, while no process saves.

    Damaged checkpoints do not count and are not deleted: `newest` names them, and the user may want to examine them.
    The checkpoint that `latest` names is always kept.

    Args:
        folder: folder of checkpoints, `RUN/checkpoints`.
        keep_last: number of checkpoints with the highest steps to keep, at least 1.
        keep_every: checkpoints whose step is a multiple of this are kept as well; None keeps no others.
    """
    assert keep_last >= 1, "pruning must leave a checkpoint to resume from"
    listing = look(folder)
    whole = [entry.path for entry in listing.entries if entry.looks_whole]
    for path in whole[:-keep_last]:
        if path.name == listing.latest or (keep_every and (step_of(path) or 0) % keep_every == 0):
            continue
        # Renamed first, so that a process killed in the middle of the deletion leaves no damaged checkpoint.
        shutil.rmtree(set_aside(path, "removed"))
