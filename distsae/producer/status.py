"""Computes the progress of a store from its commit records, its claims and the times of both.

No producer is involved, so the progress can be read at any time, whether or not a process works on the store.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Literal

from distsae.errors import WrongInput
from distsae.producer.token_pieces import tokens_kept
from distsae.store import (
    StoreAttributes,
    StorePaths,
    UnitRecord,
    contexts_before,
    read_attributes,
    reading,
    unit_count,
    units_done,
    units_of_merge,
)
from distsae.store.claims import claim_owner, claimed
from distsae.store.json_files import read_record
from distsae.store.location import Location

__all__ = ["StoreStatus", "store_status", "units_in_words"]

_WINDOW = 600.0  # seconds over which the rate is measured
_LONGEST_WINDOW = 3600.0  # seconds, if fewer than _COMMITS units were committed within _WINDOW
_COMMITS = 3


@dataclass(frozen=True, kw_only=True)
class StoreStatus:
    """The progress of a store, and the number of processes that work on it.

    Args:
        state: `"running"` while a producer or a merge works on the store; `"finished"` when it is sealed, or, for a
            bounded store, when its last unit is committed; `"waiting"` if it is unfinished and no process works on it.
        units: number of committed units, released ones included.
        units_released: number of units that the reader of a bounded store has finished.
        reader: run that reads a bounded store; None if there is none yet, and for other stores.
        units_total: number of units of the whole store; None until the corpus is tokenised.
        tokens_kept: tokens of the corpus that are tokenised and on the disk; None once all are packed.
        rows: token rows of the committed units, held-out ones included.
        rows_total: token rows of the whole store; None as long as `units_total` is.
        rows_per_second: rate over the last ten minutes of work, or since the third newest commit if that is longer
            ago, but over one hour at most; None if no rows were committed in that time.
        seconds_left: time for `rows_total - rows` at that rate; None if no process works on the store or the rate is
            unknown.
        producers: number of processes that have a claim.
        bytes: size of the committed units' files.
    """

    state: Literal["waiting", "running", "finished"]
    units: int
    units_released: int
    reader: str | None
    units_total: int | None
    tokens_kept: int | None
    rows: int
    rows_total: int | None
    rows_per_second: float | None
    seconds_left: float | None
    producers: int
    bytes: int


def store_status(root: Location) -> StoreStatus:
    """Returns the progress of the store at `root`, unfinished or finished, produced or merged.

    Raises:
        WrongInput: there is no store at `root`.
        TornData: a commit record is damaged.
    """
    paths = StorePaths(root)
    attributes = read_attributes(root)
    commits = _commits(paths)
    released = 0
    reader = ""
    finished = paths.dataset.exists()
    if attributes is not None and attributes.keep_units is not None:  # sealed long before its last unit is produced
        released, reader = reading(root)
        commits = [commit for commit in commits if commit[1].index >= released]
        finished = finished and released + len(commits) == _unit_count(paths, attributes)
    claim_times = {} if finished else _claims(paths)
    kept = None if attributes is not None else tokens_kept(paths.contexts)
    if attributes is None and not claim_times and kept is None:
        raise WrongInput(f"`store` (={root}) must be a store; got no attributes.json there; check the path")
    rows = sum(record.rows for _, record in commits)
    if attributes is not None:
        rows += contexts_before(attributes, released) * attributes.rows_per_context
    rows_total = None if attributes is None else attributes.contexts * attributes.rows_per_context
    rate = None
    if attributes is not None:
        rate = _rate(paths.attributes.stat().st_mtime, commits, list(claim_times.values()))
    left = None
    if finished:
        left = 0.0
    elif claim_times and rate and rows_total is not None:
        left = (rows_total - rows) / rate
    return StoreStatus(
        state="finished" if finished else "running" if claim_times else "waiting",
        units=released + len(commits),
        units_released=released,
        reader=reader or None,
        units_total=None if attributes is None else _unit_count(paths, attributes),
        tokens_kept=kept or (0 if attributes is None else None),
        rows=rows,
        rows_total=rows_total,
        rows_per_second=rate,
        seconds_left=left,
        producers=len(claim_times),
        bytes=sum(file.size for _, record in commits for file in record.files.values()),
    )


def units_in_words(root: Location) -> str:
    """Returns a phrase that tells how many units are committed."""
    paths = StorePaths(root)
    attributes = read_attributes(root)
    if attributes is None:
        kept = tokens_kept(paths.contexts)
        return f"{kept:,} tokens are kept" if kept else "nothing is committed yet"
    if attributes.keep_units is not None:
        return f"{len(units_done(root, attributes))} of {_unit_count(paths, attributes)} units are done"
    return f"{len(_commit_files(paths))} of {_unit_count(paths, attributes)} units are committed"


def _unit_count(paths: StorePaths, attributes: StoreAttributes) -> int:
    return units_of_merge(paths) if paths.merge.exists() else unit_count(attributes)


def _commit_files(paths: StorePaths) -> list[Location]:
    found = paths.commits.iterdir() if paths.commits.is_dir() else ()
    return [path for path in found if path.name.startswith("unit-") and path.name.endswith(".json")]


def _commits(paths: StorePaths) -> list[tuple[float, UnitRecord]]:
    """Returns the commit records with the times of their commits, oldest first."""
    found = []
    for path in _commit_files(paths):
        with contextlib.suppress(FileNotFoundError):  # released just now
            found.append((path.stat().st_mtime, read_record(path, UnitRecord.from_json)))
    return sorted(found, key=lambda commit: commit[0])


def _claims(paths: StorePaths) -> dict[tuple[str, int], float]:
    """Returns the processes that hold claims, as (host, pid), with the time of each one's latest renewal."""
    latest: dict[tuple[str, int], float] = {}
    names = [path.name for path in paths.claims.iterdir()] if paths.claims.is_dir() else []
    for name in names:
        if name.startswith(".") or not claimed(paths.claims, name):
            continue
        path = paths.claims / name
        try:
            owner, time = claim_owner(path), path.stat().st_mtime
        except FileNotFoundError:  # just released
            continue
        if owner is None:  # just being created
            continue
        process = (owner.host, owner.pid)
        latest[process] = max(time, latest.get(process, 0.0))
    return latest


def _rate(created: float, commits: list[tuple[float, UnitRecord]], claim_times: list[float]) -> float | None:
    """Returns rows per second up to the latest commit or renewal; all times are from the clock of the file system."""
    times = [time for time, _ in commits]
    last = max([created, *times, *claim_times])
    start = last - _WINDOW
    if len(times) >= _COMMITS:
        start = max(min(start, times[-_COMMITS]), last - _LONGEST_WINDOW)
    start = max(start, created)
    rows = sum(record.rows for time, record in commits if time > start)
    return rows / (last - start) if rows and last > start else None
