"""Removing what dead producers left: attempts that no commit record names.

An attempt is an orphan when its unit is committed with another attempt, or when nobody alive has a claim on its unit.
A producer whose attempt is removed under its hands notices that the unit is committed and goes on.
"""

from __future__ import annotations

from typing import NamedTuple

from distsae.errors import WrongInput
from distsae.store.bounded import remove_released
from distsae.store.claims import STALE_AFTER, claimed, file_system_time
from distsae.store.commit import read_attributes
from distsae.store.durable import read_json
from distsae.store.layout import StorePaths
from distsae.store.location import Location, entries, files_under, remove_tree

__all__ = ["Collected", "collect_orphans"]


class Collected(NamedTuple):
    """What was removed: folders and bytes; and how many attempts of living producers were left alone."""

    attempts: int
    size: int
    in_progress: int


def collect_orphans(root: Location) -> Collected:
    """Removes orphan attempts and temporary files from the store at `root`, sealed or not.

    Raises:
        WrongInput: there is no store.
        TornData: a commit record is damaged; nothing is removed then.
    """
    attributes = read_attributes(root) if root.is_dir() else None
    if attributes is None:
        raise WrongInput(f"`store` (={root}) must be a store; got no attributes.json there; do check the path")
    paths = StorePaths(root)
    remove_released(root)
    committed = _committed_attempts(paths)
    orphans: list[Location] = []
    in_progress = 0
    for folder in _attempts(paths.data):
        unit = folder.parent.name
        if committed.get(unit) == f"{unit}/{folder.name}":
            continue
        if unit not in committed and claimed(paths.claims, unit):
            in_progress += 1
            continue
        orphans.append(folder)
    orphans += _scratch(paths) + _leftovers(paths)
    size = sum(file.stat().st_size for folder in orphans for file in files_under(folder))
    for folder in orphans:
        remove_tree(folder)
    return Collected(len(orphans), size, in_progress)


def _attempts(data: Location) -> list[Location]:
    """All attempts of all units, orphans or not."""
    units = entries(data, "unit-")
    return [attempt for unit in units for attempt in entries(unit)]


def _committed_attempts(paths: StorePaths) -> dict[str, str]:
    """The attempt of every unit that has a commit record, however many units the store is to have."""
    return {path.stem: str(read_json(path)["attempt"]) for path in entries(paths.commits, "unit-")}


def _leftovers(paths: StorePaths) -> list[Location]:
    """Records that were being written when their writer died, by their age: to write one takes a moment."""
    found = [path for folder in (paths.root, paths.commits, paths.claims) for path in entries(folder, ".")]
    return [path for path in found if file_system_time(paths.root) - path.stat().st_mtime > STALE_AFTER]


def _scratch(paths: StorePaths) -> list[Location]:
    """Half-written copies of the tokenised corpus, unless somebody is writing one."""
    if claimed(paths.claims, "contexts") or not paths.contexts.is_dir():
        return []
    return entries(paths.contexts, ".")
