"""Which contexts a unit holds and in which order its rows lie: a pure function of the attributes.

The held-out contexts are one unit, with the last index; the others are permuted, unless their order is to be kept, and
split evenly into train units of about `unit_rows` rows. Rows are then permuted inside their unit. Nothing depends on
which process produces a unit, so any number of producers writes the same store.
"""

from __future__ import annotations

import numpy as np

from distsae.seeds import numpy_generator
from distsae.store.attributes import StoreAttributes
from distsae.store.records import Split

__all__ = [
    "contexts_before",
    "contexts_per_unit",
    "planned_rows",
    "row_order",
    "unit_contexts",
    "unit_count",
    "unit_sizes",
    "unit_split",
    "units_to_seal",
    "windows",
]


def contexts_per_unit(unit_rows: int, rows_per_context: int) -> int:
    """Returns the most contexts that a unit holds: as many as fit into `unit_rows` rows, but at least one."""
    return max(1, unit_rows // rows_per_context)


def unit_count(attributes: StoreAttributes) -> int:
    """Returns the number of units, without a list of them: the attributes of a stranger may make 10^15."""
    train = attributes.contexts - attributes.heldout_contexts
    units = -(-train // contexts_per_unit(attributes.unit_rows, attributes.rows_per_context))
    return units + bool(attributes.heldout_contexts)


def contexts_before(attributes: StoreAttributes, unit: int) -> int:
    """Returns the number of contexts of the train units before `unit`."""
    train = attributes.contexts - attributes.heldout_contexts
    units = unit_count(attributes) - bool(attributes.heldout_contexts)
    unit = min(unit, units)
    return unit * (train // units) + min(unit, train % units) if units else 0


def unit_sizes(attributes: StoreAttributes) -> tuple[int, ...]:
    """Returns the number of contexts of each unit."""
    train = attributes.contexts - attributes.heldout_contexts
    units = -(-train // contexts_per_unit(attributes.unit_rows, attributes.rows_per_context))
    sizes = [train // units + (unit < train % units) for unit in range(units)]
    return (*sizes, *([attributes.heldout_contexts] if attributes.heldout_contexts else []))


def unit_contexts(attributes: StoreAttributes) -> tuple[np.ndarray, ...]:
    """Returns the context ids of each unit, int64, in the order in which the model sees them.

    Held-out documents fill the last contexts. Where contexts are held out instead, they are drawn from all of them: the
    last ones of the permutation.
    """
    if attributes.context_order == "given":
        return tuple(np.split(np.arange(attributes.contexts), np.cumsum(unit_sizes(attributes))[:-1]))
    train, heldout = attributes.contexts - attributes.heldout_contexts, attributes.heldout_contexts
    if attributes.heldout_by == "contexts":
        train, heldout = attributes.contexts, 0
    order = numpy_generator(attributes.seed, "store", "contexts").permutation(train)
    if heldout:
        behind = numpy_generator(attributes.seed, "store", "heldout contexts").permutation(heldout)
        order = np.concatenate([order, train + behind])
    return tuple(np.split(order, np.cumsum(unit_sizes(attributes))[:-1]))


def unit_split(attributes: StoreAttributes, unit: int, units: int) -> Split:
    """Returns the split that a unit belongs to, `"train"` or `"heldout"`; `units` is the number of all units."""
    return "heldout" if attributes.heldout_contexts and unit == units - 1 else "train"


def planned_rows(attributes: StoreAttributes) -> dict[str, int]:
    """Returns the number of rows that each split has once all units are produced."""
    heldout = attributes.heldout_contexts * attributes.rows_per_context
    return {"train": attributes.contexts * attributes.rows_per_context - heldout, "heldout": heldout}


def windows(attributes: StoreAttributes) -> tuple[range, ...]:
    """Returns the train units of each window of a bounded store, in the order in which they are read."""
    assert attributes.keep_units is not None
    train = unit_count(attributes) - bool(attributes.heldout_contexts)
    size = attributes.keep_units // 2
    return tuple(range(first, min(first + size, train)) for first in range(0, train, size))


def units_to_seal(attributes: StoreAttributes) -> tuple[int, ...]:
    """Returns the units that must be committed before the store can be sealed.

    These are all units, or in a bounded store those of the first window and the held-out one.
    """
    units = unit_count(attributes)
    if attributes.keep_units is None:
        return tuple(range(units))
    return (*windows(attributes)[0], *([units - 1] if attributes.heldout_contexts else []))


def row_order(attributes: StoreAttributes, unit: int, rows: int) -> np.ndarray:
    """Returns the permutation of a unit's rows, int64: stored row `i` is row `order[i]` in context order."""
    return numpy_generator(attributes.seed, "store", "rows", unit).permutation(rows)
