"""The two acts that change what a store is: committing a unit, and sealing the whole.

Both publish a file create-exclusively, so that any number of producers may try: one wins, and whatever the others
did has no effect. A unit is committed once its attempt is on disk; the store is sealed once all units are committed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from distsae.errors import TornData, WrongInput
from distsae.store.attributes import FORMAT_VERSION, StoreAttributes, differences
from distsae.store.json_files import publish_json, read_json
from distsae.store.layout import StorePaths
from distsae.store.location import Location, remove_tree
from distsae.store.records import UnitRecord
from distsae.store.unit_plan import planned_rows, unit_sizes, units_to_seal

__all__ = ["MARKER", "begin_store", "commit_unit", "committed_units", "read_attributes", "read_records", "seal_store"]

_READERS = 8
MARKER = "zarr.json"
"""The file without which an attempt is none."""


def begin_store(root: Location, attributes: StoreAttributes) -> StoreAttributes:
    """Makes `root` a store of `attributes`, or checks that it is one; returns the attributes that it was given first.

    Raises:
        WrongInput: the store was begun with other attributes; the values that differ are shown.
    """
    paths = StorePaths(root)
    if root.is_file():
        raise WrongInput(f"`out` (={root}) must be a folder; got a file; choose another name")
    if not paths.attributes.exists():
        publish_json(paths.attributes, attributes.to_json())
    first = read_attributes(root)
    assert first is not None
    if first.fingerprint() != attributes.fingerprint():
        shown = ", ".join(
            f"{name} {here} now and {there} in the store"
            for name, (there, here) in differences(first, attributes).items()
        )
        raise WrongInput(
            f"`out` (={root}) must hold a store of the same settings; got {shown}; repeat them or use another `out`"
        )
    return first


def read_attributes(root: Location) -> StoreAttributes | None:
    """Returns what the store at `root` was begun with, or None if nothing was begun there."""
    try:
        return StoreAttributes.from_json(read_json(StorePaths(root).attributes))
    except (FileNotFoundError, NotADirectoryError):
        return None


def commit_unit(root: Location, record: UnitRecord) -> bool:
    """Makes an attempt part of the store; if another attempt already is, removes ours and returns False.

    Raises:
        TornData: the attempt was taken for that of a dead writer, and removed, before it was committed.
    """
    paths = StorePaths(root)
    path, attempt = paths.commit(record.index), paths.attempt(record.attempt)
    if not publish_json(path, record.to_json()):
        remove_tree(attempt)
        return False
    if not (attempt / MARKER).is_file():  # see `collect.py`
        path.unlink(missing_ok=True)
        raise TornData(f"{attempt} was removed before it was committed; run it again")
    return True


def committed_units(root: Location, units: int) -> set[int]:
    """Returns which of the units `0 .. units - 1` are committed; one listing, for progress and for the queue."""
    paths = StorePaths(root)
    names = {path.name for path in paths.commits.iterdir()} if paths.commits.is_dir() else set()
    return {unit for unit in range(units) if paths.commit(unit).name in names}


def read_records(root: Location, units: Sequence[int]) -> list[UnitRecord]:
    """Returns the commit records of `units`, read by several threads, because an object store answers slowly.

    Raises:
        FileNotFoundError: a unit is not committed; `filename` is its record's.
        TornData: a record is damaged.
    """
    paths = StorePaths(root)
    with ThreadPoolExecutor(max_workers=_READERS) as pool:
        return list(pool.map(lambda unit: UnitRecord.from_json(read_json(paths.commit(unit))), units))


def seal_store(
    root: Location,
    attributes: StoreAttributes,
    *,
    units: int | None = None,
    sources: Sequence[dict[str, Any]] = (),
) -> None:
    """Publishes `dataset.json` when every unit is committed; its content depends on the rows alone.

    A bounded store never has all its units. It is sealed when its first window and the held-out unit are committed:
    its statistics are those of the first window, its numbers of rows the planned ones.

    Args:
        root: folder of the store.
        attributes: of the store.
        units: how many there are; without it, as many as the attributes' contexts make.
        sources: of a merged store: what it was made of.

    Raises:
        TornData: a commit record is damaged or belongs to another store.
    """
    paths = StorePaths(root)
    units = len(unit_sizes(attributes)) if units is None else units
    records = read_records(root, range(units) if attributes.keep_units is None else units_to_seal(attributes))
    fingerprint = attributes.fingerprint()
    for record in records:
        if record.fingerprint != fingerprint:
            raise TornData(f"{paths.commit(record.index)} belongs to another store: its fingerprint differs")
    train = [record for record in records if record.split == "train"]
    digests = {record.index: record.digest for record in records}
    if attributes.keep_units is None:
        rows = {split: sum(r.rows for r in records if r.split == split) for split in ("train", "heldout")}
    else:
        rows = planned_rows(attributes)
    publish_json(
        paths.dataset,
        {
            "format_version": FORMAT_VERSION,
            "fingerprint": fingerprint,
            "content_digest": hashlib.sha256("".join(record.digest for record in records).encode()).hexdigest(),
            "units": units,
            "rows": rows["train"],
            "heldout_rows": rows["heldout"],
            "statistics": {hook: _statistics(train, hook) for hook in attributes.hooks},
            "unit_digests": [digests.get(unit) for unit in range(units)],
            "attributes": attributes.to_json(),
            **({"sources": list(sources)} if sources else {}),
        },
    )


def _statistics(train: list[UnitRecord], hook: str) -> dict[str, object]:
    rows = sum(record.rows for record in train)
    mean = np.sum([record.sums[hook].x for record in train], axis=0) / rows
    mean_square = sum(record.sums[hook].norm_squared for record in train) / rows
    return {
        "rows": rows,
        "mean": mean.tolist(),
        "mean_norm": sum(record.sums[hook].norm for record in train) / rows,
        "variance": max(mean_square - float(mean @ mean), 0.0),
    }
