"""Refuses to join stores that hold the same text, whatever their seeds, units, or the places where contexts begin.

Held-out text of one store that another has to train on would make figures better than they are, and text that is in two
stores would count twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from distsae.errors import WrongInput
from distsae.store.passages import Passages
from distsae.store.store import Store

__all__ = ["refuse_common_text"]

_TRAIN_CONTEXTS = 16_384
"""Contexts to train on, of each store, that are compared with the other stores; the held-out ones are all compared."""


def refuse_common_text(stores: Sequence[Store], most: float) -> None:
    """Compares the text of each store with that of every other one.

    Args:
        stores: sealed stores with contexts of one length.
        most: largest share of a store's held-out contexts, or of those to train on, that may have text in common with
            another store.

    Raises:
        WrongInput: two stores have more in common; both are named, with the share.
    """
    if most >= 1:
        return
    for store in stores:
        of_splits = {
            "held-out contexts": Passages(_joined(store, _contexts(store, "heldout"))),
            "contexts to train on": Passages(_joined(store, _some(_contexts(store, "train")))),
        }
        for other in stores:
            if other is store:
                continue
            for passages in of_splits.values():
                passages.forget()
            for split in ("train", "heldout"):
                for contexts in _contexts(other, split):
                    for passages in of_splits.values():
                        passages.look_through(contexts)
            for name, passages in of_splits.items():
                if (share := passages.common_share()) > most:
                    raise WrongInput(
                        f"`stores` (={store.path}) must hold other text than {other.path}; got {share:.0%} of its "
                        f"{name} with text that is there too; produce it from other documents, or allow it with "
                        f"--max_common_text {np.ceil(100 * share) / 100:g}"
                    )


def _contexts(store: Store, split: str) -> Iterator[NDArray[np.integer]]:
    for unit in store.units:
        if unit.split == split:
            yield store.array(unit.index, "context_token_ids").read()


def _some(parts: Iterator[NDArray[np.integer]]) -> Iterator[NDArray[np.integer]]:
    """Yields parts, whose contexts are in random order, until there are enough."""
    count = 0
    for part in parts:
        yield part[: _TRAIN_CONTEXTS - count]
        count += len(part)
        if count >= _TRAIN_CONTEXTS:
            return


def _joined(store: Store, parts: Iterator[NDArray[np.integer]]) -> NDArray[np.integer]:
    none = np.empty((0, store.attributes.context_length), np.int32)
    return np.concatenate([none, *parts])
