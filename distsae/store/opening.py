"""What is read when a sealed store is opened: `dataset.json`, the attributes and the commit records, compared."""

from __future__ import annotations

from typing import Any

from distsae.errors import TornData, WrongInput
from distsae.store.attributes import FORMAT_VERSION, StoreAttributes
from distsae.store.commit import committed_units, read_attributes, read_records
from distsae.store.json_files import read_json
from distsae.store.layout import StorePaths
from distsae.store.location import Location
from distsae.store.records import UnitRecord
from distsae.store.unit_plan import unit_sizes, unit_split

__all__ = ["read_sealed"]


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
    if dataset["format_version"] != FORMAT_VERSION:
        raise WrongInput(
            f"`store` (={root}) must have format {FORMAT_VERSION}; got {dataset['format_version']}; read it "
            "with the version of distsae that wrote it"
        )
    attributes = StoreAttributes.from_json(dataset["attributes"])
    first = read_attributes(root)
    if first is None or first.fingerprint() != dataset["fingerprint"]:
        raise TornData(f"{paths.attributes} is missing or not the one that the store was sealed with")
    digests = dataset["unit_digests"]
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
    return root, attributes, tuple(units), dataset


def _why_not_open(root: Location) -> str:
    """Returns why there is no sealed store at `root`, as the text of an error about `store`."""
    attributes = read_attributes(root)
    if attributes is None:
        return f"`store` (={root}) must be a store; got no dataset.json there; make one with `distsae produce --out`"
    merge = StorePaths(root).merge
    command = "distsae store merge" if merge.exists() else "distsae produce"
    units = read_json(merge)["units"] if merge.exists() else len(unit_sizes(attributes))
    done = len(committed_units(root, units))
    return (
        f"`store` (={root}) must be finished; got {done} of {units} units; run the same `{command}` command again "
        "to finish it"
    )
