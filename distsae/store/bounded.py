"""A bounded store: one that never holds more than a given number of units, for endless text.

Units are read once, in windows of half the units that may be kept: while the reader is in one window, producers fill
the next. Units that have been read and checkpointed are released, so that producers can continue. The reader's progress
is one small file, `reading.json`, the only file that a reader ever writes into a store. It may move back when a run is
resumed from an older checkpoint: units are a pure function of the store's attributes, so released units are produced
again.

A release may be interrupted anywhere: the progress is written first, the released units are garbage from then on, and
the next release (or `distsae store collect`) removes those that are left.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, NamedTuple

from distsae.checked_files import Between, typed
from distsae.errors import WrongInput
from distsae.store.attributes import StoreAttributes
from distsae.store.commit import committed_units, read_attributes, seal_store
from distsae.store.json_files import read_record, replace_json
from distsae.store.layout import StorePaths
from distsae.store.location import Location, entries, remove_tree
from distsae.store.unit_plan import unit_count, unit_split, units_to_seal

__all__ = [
    "Reading",
    "begin_reading",
    "reading",
    "refuse_other_reader",
    "release",
    "remove_released",
    "seal_early",
    "units_done",
    "units_wanted",
]


class Reading(NamedTuple):
    """The reader's progress.

    Args:
        released: number of train units that have been released, from unit 0 on.
        reader: name of the run that reads the store; empty before the first.
    """

    released: Annotated[int, Between(0)]
    reader: str


def reading(root: Location) -> Reading:
    """Returns the progress of the reader of the store at `root`.

    Raises:
        TornData: `reading.json` is damaged.
    """
    try:
        return read_record(StorePaths(root).reading, functools.partial(typed, Reading))
    except FileNotFoundError:
        return Reading(0, "")


def refuse_other_reader(root: Location, reader: str) -> None:
    """Checks that no other run than `reader` reads the store.

    Raises:
        WrongInput: another run reads it.
    """
    current = reading(root)
    if current.reader not in ("", reader):
        raise WrongInput(
            f"`store` (={root}) must have one reader, because it keeps a unit only until that one has read it; got "
            f"{current.reader}; resume that run, or produce another store, or remove {StorePaths(root).reading} if "
            "that run is abandoned"
        )


def begin_reading(root: Location, reader: str, unit: int) -> bool:
    """Makes `reader` the only reader of the store.

    Args:
        root: bounded store.
        reader: name of the run.
        unit: first train unit that the run needs.

    Returns:
        Whether released units must be produced again, because `unit` is one of them.

    Raises:
        WrongInput: another run reads the store.
    """
    refuse_other_reader(root, reader)
    current = reading(root)
    attributes = read_attributes(root)
    assert attributes is not None
    assert attributes.keep_units is not None
    replace_json(StorePaths(root).reading, Reading(min(current.released, unit), reader)._asdict())
    if unit < current.released:  # units that no longer fit are removed, and produced again later
        end = unit + attributes.keep_units
        units = unit_count(attributes)
        _remove_units(
            StorePaths(root), lambda number: number >= end and unit_split(attributes, number, units) == "train"
        )
    return unit < current.released


def release(root: Location, reader: str, unit: int) -> None:
    """Removes the train units before `unit`, so that producers may continue.

    Raises:
        WrongInput: another run reads the store now.
        TornData: `reading.json` is damaged.
    """
    refuse_other_reader(root, reader)
    if unit > reading(root).released:
        replace_json(StorePaths(root).reading, Reading(unit, reader)._asdict())
    remove_released(root)


def remove_released(root: Location) -> None:
    """Removes the units that have been released and are still there."""
    released = reading(root).released
    if not released:
        return
    _remove_units(StorePaths(root), lambda unit: unit < released)


def _remove_units(paths: StorePaths, is_removed: Callable[[int], bool]) -> None:
    """Removes units, commit records before data, so that a record never promises data that are gone."""
    for path in (*entries(paths.commits, "unit-"), *entries(paths.data, "unit-")):
        unit = paths.unit_number(path.name)
        if unit is not None and is_removed(unit):
            remove_tree(path)


def seal_early(root: Location, attributes: StoreAttributes) -> None:
    """Seals a bounded store if its first window and the held-out unit are committed; from then on it can be read."""
    if attributes.keep_units is None or StorePaths(root).dataset.exists():
        return
    if committed_units(root, unit_count(attributes)).issuperset(units_to_seal(attributes)):
        try:
            seal_store(root, attributes)
        except FileNotFoundError:  # another process has sealed it, and the reader has released a unit since
            if not StorePaths(root).dataset.exists():
                raise


def units_wanted(root: Location, attributes: StoreAttributes) -> set[int]:
    """Returns the units that the store should hold now, the held-out one included; all units if it is not bounded."""
    units = unit_count(attributes)
    if attributes.keep_units is None:
        return set(range(units))
    first = reading(root).released
    return {
        unit
        for unit in range(units)
        if first <= unit < first + attributes.keep_units or unit_split(attributes, unit, units) == "heldout"
    }


def units_done(root: Location, attributes: StoreAttributes) -> set[int]:
    """Returns the units that are committed, and those that were committed and have been released."""
    units = unit_count(attributes)
    done = committed_units(root, units)
    return done if attributes.keep_units is None else done | set(range(min(reading(root).released, units)))
