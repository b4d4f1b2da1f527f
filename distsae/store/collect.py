"""Removing what dead producers left: attempts that no commit record names.

An attempt is an orphan when its unit is committed with another attempt, or when nobody alive has a claim on its unit.
A producer whose attempt is removed under its hands notices that the unit is committed and goes on.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

from distsae.errors import WrongInput
from distsae.store.bounded import remove_released
from distsae.store.claims import STALE_AFTER, claimed, file_system_time
from distsae.store.commit import MARKER, read_attributes
from distsae.store.json_files import read_json
from distsae.store.layout import StorePaths
from distsae.store.location import Location, entries, files_under, remove_tree

__all__ = ["Collected", "collect_orphans"]

_HIDDEN = ".gone-"


class Collected(NamedTuple):
    """What was removed: folders and bytes; and how many attempts of living producers were left alone."""

    attempts: int
    size: int
    in_progress: int


def collect_orphans(root: Location) -> Collected:
    """Removes orphan attempts, temporary files and stale claims from the store at `root`, sealed or not, in use or not.

    Raises:
        WrongInput: there is no store.
        TornData: a commit record is damaged; nothing is removed then.
    """
    attributes = read_attributes(root)
    if attributes is None:
        raise WrongInput(f"`store` (={root}) must be a store; got no attributes.json there; check the path")
    paths = StorePaths(root)
    for record in entries(paths.commits, "unit-"):
        with contextlib.suppress(FileNotFoundError):  # released just now
            read_json(record)
    remove_released(root)
    attempts = [folder for unit in entries(paths.data, "unit-") for folder in entries(unit)]
    removed = size = in_progress = 0
    for folder in attempts:
        unit = folder.parent.name
        # In this order: a claim is given back only after the commit, so who has neither is dead.
        busy, committed = claimed(paths.claims, unit), _committed_attempt(paths, unit)
        if committed == f"{unit}/{folder.name}":
            continue
        if committed is None and busy:
            in_progress += 1
            continue
        if (freed := _remove_attempt(paths, folder)) is not None:
            removed, size = removed + 1, size + freed
    for path in (*_scratch(paths), *_leftovers(paths)):
        removed, size = removed + 1, size + _size(path)
        remove_tree(path)
    _remove_stale_claims(paths)
    return Collected(removed, size, in_progress)


def _committed_attempt(paths: StorePaths, unit: str) -> str | None:
    """The attempt that a unit is committed with, as it is at this moment."""
    try:
        return str(read_json(paths.commits / f"{unit}.json")["attempt"])
    except FileNotFoundError:
        return None


def _remove_attempt(paths: StorePaths, folder: Location) -> int | None:
    """Removes an attempt and returns its bytes; or None if its unit has been committed with it in the meantime.

    That is what a writer does who slept until its claim was stale. The attempt is hidden first; who publishes a record
    looks afterwards whether its attempt is still there, and we look afterwards whether there is a record: so one of us
    gives way.
    """
    unit, marker = folder.parent.name, folder / MARKER
    if isinstance(folder, Path) and not folder.name.startswith(_HIDDEN):
        hidden = folder.parent / f"{_HIDDEN}{folder.name}"
        try:
            folder.rename(hidden)
        except FileNotFoundError:  # removed by its writer
            return None
        if _committed_attempt(paths, unit) == f"{unit}/{folder.name}":
            hidden.rename(folder)
            return None
        folder = hidden
    elif not isinstance(folder, Path) and marker.is_file():
        content = marker.read_bytes()
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


def _leftovers(paths: StorePaths) -> list[Location]:
    """Records that were being written when their writer died, by their age: to write one takes a moment."""
    found: list[Location] = []
    for path in (path for folder in (paths.root, paths.commits, paths.claims) for path in entries(folder, ".")):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and file_system_time(paths.root) - path.stat().st_mtime > STALE_AFTER:
                found.append(path)
    return found


def _remove_stale_claims(paths: StorePaths) -> None:
    for path in entries(paths.claims):
        if not path.name.startswith(".") and not claimed(paths.claims, path.name):
            path.unlink(missing_ok=True)


def _scratch(paths: StorePaths) -> list[Location]:
    """Half-written copies of the tokenised corpus, unless somebody is writing one."""
    if claimed(paths.claims, "contexts") or not paths.contexts.is_dir():
        return []
    return entries(paths.contexts, ".")
