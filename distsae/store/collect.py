"""Garbage collection: removes the attempts that no commit record names, left behind by producers that died.

An attempt is an orphan if its unit is committed with another attempt, or is not committed and has no valid claim. A
producer whose attempt is removed while it works on it notices this when it commits.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

from distsae.errors import WrongInput
from distsae.store.bounded import remove_released
from distsae.store.claims import STALE_AFTER, claimed, file_system_time
from distsae.store.commit import MARKER, read_attributes
from distsae.store.json_files import read_record
from distsae.store.layout import StorePaths
from distsae.store.location import Location, entries, files_under, read_content, remove_tree
from distsae.store.records import UnitRecord

__all__ = ["PIECES_PREFIX", "Collected", "collect_orphans"]

PIECES_PREFIX = ".pieces-"
"""Start of the names of the folders in `contexts` with pieces of the corpus, from which its tokenising goes on."""

_HIDDEN_PREFIX = ".gone-"


class Collected(NamedTuple):
    """What a collection did.

    Args:
        attempts: number of attempts and temporary files that were removed.
        size: their size in bytes.
        in_progress: number of attempts that were kept because a producer works on them.
    """

    attempts: int
    size: int
    in_progress: int


def collect_orphans(root: Location) -> Collected:
    """Removes orphan attempts, temporary files and void claims from the store at `root`.

    The store may be sealed or not, and in use by producers and a reader at the same time.

    Raises:
        WrongInput: there is no store at `root`.
        TornData: a commit record is damaged; then nothing is removed.
    """
    paths = StorePaths(root)
    begun = paths.claims.is_dir() or paths.contexts.is_dir()  # as a store whose text is being tokenised
    if read_attributes(root) is None and not begun:
        raise WrongInput(f"`store` (={root}) must be a store; got no attributes.json there; check the path")
    for record in entries(paths.commits, "unit-"):
        with contextlib.suppress(FileNotFoundError):  # its unit was released just now
            read_record(record, UnitRecord.from_json)
    remove_released(root)
    attempts = [folder for unit in entries(paths.data, "unit-") if not _is_link(unit) for folder in entries(unit)]
    removed = size = in_progress = 0
    for folder in attempts:
        unit = folder.parent.name
        # The claim first: a producer releases it only after the commit, so an attempt with neither is an orphan.
        busy = claimed(paths.claims, unit)
        committed = _committed_attempt(paths, unit)
        if committed == f"{unit}/{folder.name}":
            continue
        if committed is None and busy:
            in_progress += 1
            continue
        if (freed := _remove_attempt(paths, folder)) is not None:
            removed, size = removed + 1, size + freed
    for path in (*_unfinished_corpora(paths), *_unfinished_records(paths)):
        removed, size = removed + 1, size + _size(path)
        remove_tree(path)
    _remove_void_claims(paths)
    return Collected(removed, size, in_progress)


def _is_link(folder: Location) -> bool:
    """Returns whether a folder is a symbolic link, behind which nothing belongs to the store."""
    return isinstance(folder, Path) and folder.is_symlink()


def _committed_attempt(paths: StorePaths, unit: str) -> str | None:
    """Returns the attempt that a unit is committed with at this moment; None if it is not committed."""
    try:
        return read_record(paths.commits / f"{unit}.json", UnitRecord.from_json).attempt
    except FileNotFoundError:
        return None


def _remove_attempt(paths: StorePaths, folder: Location) -> int | None:
    """Removes an attempt and returns its size in bytes; None if its unit has been committed with it in the meantime.

    A producer that was suspended until its claim was void may commit at any moment. Therefore the attempt is hidden
    first, and the commit record is read afterwards. The producer publishes the record first, and looks for its attempt
    afterwards. So at least one of the two notices the other and undoes its own step.
    """
    unit, marker = folder.parent.name, folder / MARKER
    if isinstance(folder, Path) and not folder.name.startswith(_HIDDEN_PREFIX):
        hidden = folder.parent / f"{_HIDDEN_PREFIX}{folder.name}"
        try:
            folder.rename(hidden)
        except FileNotFoundError:  # removed by its producer
            return None
        if _committed_attempt(paths, unit) == f"{unit}/{folder.name}":
            hidden.rename(folder)
            return None
        folder = hidden
    elif not isinstance(folder, Path) and marker.is_file():
        content = read_content(marker)
        marker.unlink(missing_ok=True)
        if _committed_attempt(paths, unit) == f"{unit}/{folder.name}":
            marker.write_bytes(content)
            return None
    size = _size(folder)
    remove_tree(folder)
    return size


def _size(path: Location) -> int:
    total = 0
    for file in [path] if path.is_file() else files_under(path):
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


def _unfinished_records(paths: StorePaths) -> list[Location]:
    """Returns temporary files of records whose writers died: writing a record takes a moment, and these are old."""
    found: list[Location] = []
    for path in (path for folder in (paths.root, paths.commits, paths.claims) for path in entries(folder, ".")):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and file_system_time(paths.root) - path.stat().st_mtime > STALE_AFTER:
                found.append(path)
    return found


def _remove_void_claims(paths: StorePaths) -> None:
    for path in entries(paths.claims):
        if not path.name.startswith(".") and not claimed(paths.claims, path.name):
            path.unlink(missing_ok=True)


def _unfinished_corpora(paths: StorePaths) -> list[Location]:
    """Returns half-written copies of the tokenised corpus; none while a producer is writing one.

    Its pieces are kept until there is a finished copy.
    """
    if claimed(paths.claims, "contexts") or not paths.contexts.is_dir():
        return []
    found = entries(paths.contexts)
    finished = any(not path.name.startswith(".") for path in found)
    hidden = [path for path in found if path.name.startswith(".")]
    return [path for path in hidden if finished or not path.name.startswith(PIECES_PREFIX)]
