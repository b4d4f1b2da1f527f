"""What is read when a sealed store is opened: `dataset.json`, the attributes and the commit records, compared."""

from __future__ import annotations

import functools
from typing import Any

from distsae.checked_files import WrongField, shown, typed
from distsae.errors import TornData, WrongInput
from distsae.store.attributes import FORMAT_VERSION, StoreAttributes
from distsae.store.commit import committed_units, read_attributes, read_records
from distsae.store.json_files import read_json, read_record
from distsae.store.layout import StorePaths
from distsae.store.location import Location
from distsae.store.records import UnitRecord
from distsae.store.sealed import MergeFacts, check_record, check_sealed, sealed_facts
from distsae.store.unit_plan import unit_count, unit_split

__all__ = ["read_sealed", "units_of_merge"]


def read_sealed(root: Location) -> tuple[Location, StoreAttributes, tuple[UnitRecord, ...], dict[str, Any]]:
    """Returns the folder, the attributes, the commit records and the content of `dataset.json` of a sealed store.

    In a bounded store the records are those of the held-out unit only.

    Raises:
        WrongInput: there is no store, it is unfinished, or it has another format.
        TornData: a record is damaged or missing.
    """
    paths = StorePaths(root)
    if not paths.dataset.is_file():
        raise WrongInput(_why_not_open(root))
    dataset = read_json(paths.dataset)
    if (version := dataset.get("format_version")) != FORMAT_VERSION:
        raise WrongInput(
            f"`store` (={root}) must have format {FORMAT_VERSION}; got {shown(version)}; read it with the version of "
            "distsae that wrote it"
        )
    try:
        attributes = StoreAttributes.from_json(typed(dict[str, Any], dataset.get("attributes"), "attributes"))
        facts = sealed_facts(dataset, attributes)
    except WrongField as error:
        raise TornData(f"{paths.dataset} is not a record that distsae wrote: {error}") from None
    first = read_attributes(root)
    if first is None or not first.fingerprint() == attributes.fingerprint() == facts.fingerprint:
        raise TornData(f"{paths.attributes} is missing or not the one that the store was sealed with")
    digests = facts.unit_digests
    try:
        # In a bounded store only the held-out unit is always there; the others come and go.
        sealed = [unit for unit, digest in enumerate(digests) if digest is not None]
        if attributes.keep_units is not None:
            sealed = [unit for unit in sealed if unit_split(attributes, unit, len(digests)) == "heldout"]
        units = read_records(root, sealed)
    except FileNotFoundError as error:
        raise TornData(f"{error.filename} is missing from a sealed store") from None
    for record in units:
        if record.digest != digests[record.index]:
            raise TornData(f"{paths.commit(record.index)} is not the record that the store was sealed with")
        check_record(paths, attributes, record)
    if attributes.keep_units is None:
        check_sealed(paths, attributes, facts, units)
    return root, attributes, tuple(units), dataset


def units_of_merge(paths: StorePaths) -> int:
    """Returns the number of units that a store will have once it is merged, from `merge.json`.

    Raises:
        TornData: the file is damaged.
    """
    return read_record(paths.merge, functools.partial(typed, MergeFacts)).units


def _why_not_open(root: Location) -> str:
    """Returns why there is no sealed store at `root`, as the text of an error about `store`."""
    attributes = read_attributes(root)
    if attributes is None:
        return f"`store` (={root}) must be a store; got no dataset.json there; make one with `distsae produce --out`"
    merge = StorePaths(root).merge
    command = "distsae store merge" if merge.exists() else "distsae produce"
    units = units_of_merge(StorePaths(root)) if merge.exists() else unit_count(attributes)
    done = len(committed_units(root, units))
    return (
        f"`store` (={root}) must be finished; got {done} of {units} units; run the same `{command}` command again "
        "to finish it"
    )
