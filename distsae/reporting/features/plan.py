"""Which rows are read, and in which parts: a pure function of the store and the config.

The pass takes the first contexts of the split, in the order of its units and in the order in which the model saw them
in a unit. Producers have permuted the contexts, so that these are a random sample of the split. A part is a few of
these contexts, all from one unit. Whoever computes a part reads the whole unit, because rows are permuted inside it,
and encodes only the rows of the part: reading costs little beside encoding, and memory does not grow with the unit.
"""

from __future__ import annotations

from dataclasses import dataclass

from distsae.errors import WrongInput
from distsae.store import Store

__all__ = ["Part", "parts_of"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some contexts of one unit.

    Args:
        number: number of the part.
        unit: unit of the contexts.
        first: index of the first context in the unit.
        contexts: number of contexts.
        ordinal: number of the first context in the pass.
    """

    number: int
    unit: int
    first: int
    contexts: int
    ordinal: int


def parts_of(store: Store, split: str, max_rows: int, part_rows: int) -> tuple[Part, ...]:
    """Returns the parts of a pass over a split, at least one.

    Raises:
        WrongInput: the split has no rows, or is the train split of a bounded store.
    """
    attributes = store.attributes
    if split == "train" and attributes.keep_units is not None:
        raise WrongInput(
            f"`split` (={split}) must be heldout for a bounded store, whose train units come and go; got a store that "
            f"keeps {attributes.keep_units} units; use --split heldout"
        )
    per_part = max(part_rows // attributes.rows_per_context, 1)
    left = max(max_rows // attributes.rows_per_context, 1)
    parts: list[Part] = []
    ordinal = 0
    for record in store.units:
        if record.split != split:
            continue
        taken = min(record.contexts, left)
        for first in range(0, taken, per_part):
            count = min(per_part, taken - first)
            parts.append(
                Part(number=len(parts), unit=record.index, first=first, contexts=count, ordinal=ordinal + first)
            )
        ordinal += taken
        left -= taken
    if not parts:
        other = "heldout" if split == "train" else "train"
        raise WrongInput(f"`split` (={split}) must have rows in the store {store.path}; got none; use --split {other}")
    return tuple(parts)
