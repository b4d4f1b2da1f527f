"""Which contexts a unit holds and in which order its rows lie: a pure function of the attributes.

Contexts are permuted by index. The last ones of the permutation are held out, as one unit with the last index; the
others are split evenly into train units of about `unit_rows` rows. Rows are then permuted inside their unit.
Nothing here depends on who produces a unit, so any number of producers writes the same store.
"""

from __future__ import annotations

import numpy as np

from distsae.seeds import numpy_generator
from distsae.store.attributes import StoreAttributes

__all__ = ["contexts_per_unit", "row_order", "unit_contexts", "unit_split"]


def contexts_per_unit(unit_rows: int, rows_per_context: int) -> int:
    """Most contexts that a unit holds: whole contexts, at least one."""
    return max(1, unit_rows // rows_per_context)


def unit_contexts(attributes: StoreAttributes) -> tuple[np.ndarray, ...]:
    """Returns the context ids of each unit, int64, in the order in which the model sees them."""
    order = numpy_generator(attributes.seed, "store", "contexts").permutation(attributes.contexts)
    train, heldout = np.split(order, [attributes.contexts - attributes.heldout_contexts])
    size = contexts_per_unit(attributes.unit_rows, attributes.rows_per_context)
    units = np.array_split(train, -(-len(train) // size)) if len(train) else []
    return (*units, *([heldout] if len(heldout) else []))


def unit_split(attributes: StoreAttributes, unit: int, units: int) -> str:
    """Returns `"train"` or `"heldout"`."""
    return "heldout" if attributes.heldout_contexts and unit == units - 1 else "train"


def row_order(attributes: StoreAttributes, unit: int, rows: int) -> np.ndarray:
    """Returns the permutation of a unit's rows, int64: stored row `i` is natural row `order[i]`."""
    return numpy_generator(attributes.seed, "store", "rows", unit).permutation(rows)
