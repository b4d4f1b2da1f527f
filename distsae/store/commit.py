"""The life of a store: beginning it, committing its units, sealing it.

Each step publishes one file create-exclusively, so any number of producers may try it: one succeeds, and what the
others did has no effect. A unit is committed once its attempt is on the disk; the store is sealed once all units are
committed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from distsae.errors import TornData, WrongInput
from distsae.store.attributes import FORMAT_VERSION, StoreAttributes, differences
from distsae.store.json_files import publish_json, read_record
from distsae.store.layout import StorePaths
from distsae.store.location import Location, remove_tree
from distsae.store.records import UnitRecord, merged_norms
from distsae.store.unit_plan import planned_rows, unit_count, units_to_seal

__all__ = ["MARKER", "begin_store", "commit_unit", "committed_units", "read_attributes", "read_records", "seal_store"]

MARKER = "zarr.json"
"""File whose absence means that an attempt has been removed."""

_READ_THREADS = 8


def begin_store(root: Location, attributes: StoreAttributes) -> StoreAttributes:
    """Makes `root` a store with these attributes, or checks that it is one.

    Returns:
        The attributes that the store was begun with; they may differ from `attributes` in names and versions.

    Raises:
        WrongInput: `root` is a file, or the store was begun with other attributes; the values that differ are shown.
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
            f"{name} {now} now and {stored} in the store"
            for name, (stored, now) in differences(first, attributes).items()
        )
        raise WrongInput(
            f"`out` (={root}) must hold a store of the same settings; got {shown}; use the settings of the store or "
            "another `out`"
        )
    return first


def read_attributes(root: Location) -> StoreAttributes | None:
    """Returns the attributes that the store at `root` was begun with, or None if there is no store."""
    try:
        return read_record(StorePaths(root).attributes, StoreAttributes.from_json)
    except (FileNotFoundError, NotADirectoryError):
        return None


def commit_unit(root: Location, record: UnitRecord) -> bool:
    """Makes an attempt part of the store, unless another attempt at its unit already is.

    Args:
        root: folder of the store.
        record: commit record of the attempt, whose files must be on the disk.

    Returns:
        Whether the unit is committed with this attempt; if not, the attempt is removed.

    Raises:
        TornData: the attempt was removed before it was committed, because its producer seemed to be dead.
    """
    paths = StorePaths(root)
    path, attempt = paths.commit(record.index), paths.attempt(record.attempt)
    if not publish_json(path, record.to_json()):
        remove_tree(attempt)
        return False
    if not (attempt / MARKER).is_file():  # `collect.py` explains why this is looked at after the record is published
        path.unlink(missing_ok=True)
        raise TornData(f"{attempt} was removed before it was committed; run the command again")
    return True


def committed_units(root: Location, units: int) -> set[int]:
    """Returns which of the units `0 .. units - 1` are committed; costs one listing of a folder."""
    paths = StorePaths(root)
    found = paths.commits.iterdir() if paths.commits.is_dir() else ()
    numbers = {paths.unit_number(path.name) for path in found if path.name.endswith(".json")}
    return {unit for unit in numbers if unit is not None and unit < units}


def read_records(root: Location, units: Sequence[int]) -> list[UnitRecord]:
    """Returns the commit records of `units`, read by several threads, because an object store answers slowly.

    Raises:
        FileNotFoundError: a unit is not committed; `filename` names its missing record.
        TornData: a record is damaged.
    """
    paths = StorePaths(root)

    def read(unit: int) -> UnitRecord:
        record = read_record(paths.commit(unit), UnitRecord.from_json)
        if record.index != unit:
            raise TornData(f"{paths.commit(unit)} is the record of another unit, {record.index}")
        return record

    with ThreadPoolExecutor(max_workers=_READ_THREADS) as pool:
        return list(pool.map(read, units))


def seal_store(
    root: Location,
    attributes: StoreAttributes,
    *,
    units: int | None = None,
    sources: Sequence[dict[str, Any]] = (),
) -> None:
    """Publishes `dataset.json`, whose content depends on the rows alone; every unit must be committed.

    A bounded store never holds all its units. Only its first window and the held-out unit must be committed; its
    statistics are those of the first window, and its numbers of rows are the planned ones. The window's histograms of
    norms are sealed too, because its units do not stay; of other stores they are in the commit records alone.

    Args:
        root: folder of the store.
        attributes: attributes of the store.
        units: number of units; by default the number that the attributes' contexts make.
        sources: descriptions of the stores that a merged store was made of.

    Raises:
        FileNotFoundError: a unit is not committed.
        TornData: a commit record is damaged or belongs to another store.
    """
    paths = StorePaths(root)
    units = unit_count(attributes) if units is None else units
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
            **({} if attributes.keep_units is None else {"norms": _norms(train, attributes.hooks)}),
            **({"sources": list(sources)} if sources else {}),
        },
    )


def _statistics(train: list[UnitRecord], hook: str) -> dict[str, object]:
    rows = sum(record.rows - record.excluded_rows for record in train)
    mean = np.sum([record.sums[hook].x for record in train], axis=0) / rows
    mean_square = sum(record.sums[hook].norm_squared for record in train) / rows
    return {
        "rows": rows,
        "mean": mean.tolist(),
        "mean_norm": sum(record.sums[hook].norm for record in train) / rows,
        "variance": max(mean_square - float(mean @ mean), 0.0),
    }


def _norms(train: list[UnitRecord], hooks: Sequence[str]) -> dict[str, Any]:
    """Returns the histograms of norms of all train units together, as JSON values, of the hooks that have them."""
    merged = {hook: merged_norms(train, hook) for hook in hooks}
    return {hook: norms.to_json() for hook, norms in merged.items() if norms is not None}
