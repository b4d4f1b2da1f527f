"""A store that never holds more than a given number of units, for text without end.

Units are read once, in windows of half the units that may be kept: while the reader is in one window, producers fill
the next. What is read and checkpointed is released, which lets producers go on. One small file says how far the reader
is; it is the only thing that a reader ever writes into a store. It may go back, if a run is resumed from an older
checkpoint: units are a pure function of the store's attributes, so what was released is produced again.

Every step can be cut short: the mark moves first, what lies before it is rubbish from then on, and the next release (or
`distsae store collect`) removes what was left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from distsae.errors import WrongInput
from distsae.store.attributes import StoreAttributes
from distsae.store.commit import committed_units, read_attributes, seal_store
from distsae.store.json_files import read_json, replace_json
from distsae.store.layout import StorePaths
from distsae.store.location import Location, entries, remove_tree
from distsae.store.unit_plan import unit_sizes, unit_split, units_to_seal

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
    """How far the reader is: train units before `released` are done with; `reader` names the run, empty before any."""

    released: int
    reader: str


def reading(root: Location) -> Reading:
    """Returns how far the reader of the store at `root` is.

    Raises:
        TornData: the record is damaged.
    """
    try:
        return Reading(**read_json(StorePaths(root).reading))
    except FileNotFoundError:
        return Reading(0, "")


def refuse_other_reader(root: Location, reader: str) -> None:
    """Checks that nobody else than `reader` reads the store.

    Raises:
        WrongInput: another run does.
    """
    seen = reading(root)
    if seen.reader not in ("", reader):
        raise WrongInput(
            f"`store` (={root}) must have one reader, as it keeps no unit longer than that one needs it; got "
            f"{seen.reader}; resume that run, or produce another store (or remove {StorePaths(root).reading} if "
            "that run is given up)"
        )


def begin_reading(root: Location, reader: str, unit: int) -> bool:
    """Makes `reader` the store's one reader, which needs the units from `unit` on; says whether the mark went back.

    Raises:
        WrongInput: another run reads the store.
    """
    refuse_other_reader(root, reader)
    seen, attributes = reading(root), read_attributes(root)
    assert attributes is not None
    assert attributes.keep_units is not None
    replace_json(StorePaths(root).reading, Reading(min(seen.released, unit), reader)._asdict())
    if unit < seen.released:  # what there is no room for is produced again as well
        first, units = unit + attributes.keep_units, len(unit_sizes(attributes))
        _remove_units(
            StorePaths(root), lambda there: there >= first and unit_split(attributes, there, units) == "train"
        )
    return unit < seen.released


def release(root: Location, reader: str, unit: int) -> None:
    """Gives up the train units before `unit`: their space is free and producers may go on.

    Raises:
        WrongInput: another run reads the store now.
        TornData: the record of reading is damaged.
    """
    refuse_other_reader(root, reader)
    if unit > reading(root).released:
        replace_json(StorePaths(root).reading, Reading(unit, reader)._asdict())
    remove_released(root)


def remove_released(root: Location) -> None:
    """Removes what is released, records before data: a record never promises what is gone."""
    paths, first = StorePaths(root), reading(root).released
    if not first:
        return
    _remove_units(paths, lambda unit: unit < first)


def _remove_units(paths: StorePaths, chosen: Callable[[int], bool]) -> None:
    for path in (*entries(paths.commits, "unit-"), *entries(paths.data, "unit-")):
        if chosen(paths.unit_number(path.name)):
            remove_tree(path)


def seal_early(root: Location, attributes: StoreAttributes) -> None:
    """Seals a bounded store as soon as its first window and the held-out unit are committed: then it can be read."""
    if attributes.keep_units is None or StorePaths(root).dataset.exists():
        return
    if committed_units(root, len(unit_sizes(attributes))).issuperset(units_to_seal(attributes)):
        try:
            seal_store(root, attributes)
        except FileNotFoundError:  # another process sealed it, and its reader has released a unit since
            if not StorePaths(root).dataset.exists():
                raise


def units_wanted(root: Location, attributes: StoreAttributes) -> set[int]:
    """Returns the units that may be in the store now, those held out included; all of them if it is not bounded."""
    units = len(unit_sizes(attributes))
    if attributes.keep_units is None:
        return set(range(units))
    first = reading(root).released
    return {
        unit
        for unit in range(units)
        if first <= unit < first + attributes.keep_units or unit_split(attributes, unit, units) == "heldout"
    }


def units_done(root: Location, attributes: StoreAttributes) -> set[int]:
    """Returns the units that are committed, or were and have been released."""
    done = committed_units(root, len(unit_sizes(attributes)))
    return done if attributes.keep_units is None else done | set(range(reading(root).released))
