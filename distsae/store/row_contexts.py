"""Leads from rows back to text: which context of its unit each row comes from, and the token ids of that context.

A row knows the number of its context and its position. The token ids of whole contexts lie beside the rows, in the
order in which the model saw them, without numbers. So contexts are told apart by their tokens: those of the rows of a
context, in the order of positions, are the end of one stored context. This holds in merged stores too, whose units have
kept the numbers of the stores that they come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distsae.errors import TornData
from distsae.store.attributes import StoreAttributes
from distsae.store.contents import RowIds
from distsae.store.stored_array import StoredArray

__all__ = ["RowContext", "UnitContexts"]


@dataclass(frozen=True, kw_only=True)
class RowContext:
    """The text that one row comes from.

    Args:
        token_ids: token ids of the whole context, int64 `[context_length]`, excluded positions included.
        position: position of the row's token in the context.
        context_id: number of the context in its corpus.
        document_id: number of the token's document in its corpus.
    """

    token_ids: Tensor
    position: int
    context_id: int
    document_id: int


class HasRows(Protocol):
    """What is needed of a `Store`."""

    attributes: StoreAttributes

    def read_ids(self, unit_index: int) -> RowIds:
        """Returns the origin of the rows of a unit."""

    def array(self, unit: int, name: str) -> StoredArray:
        """Returns an array of a unit."""


@dataclass(frozen=True, kw_only=True)
class UnitContexts:
    """The contexts of a unit, in the order in which the model saw them, and which of them each row comes from.

    Args:
        ids: origin of each row, in stored order.
        context: index of each row's context in `token_ids`, int64 `[rows]`.
        token_ids: token ids of the contexts, int64 `[contexts, context_length]`, excluded positions included.
        context_id: number of each context in its corpus, int64 `[contexts]`.
    """

    ids: RowIds
    context: Tensor
    token_ids: Tensor
    context_id: Tensor

    @classmethod
    def read(cls, store: HasRows, unit: int) -> UnitContexts:
        """Reads the contexts of a unit.

        Raises:
            TornData: a file is missing or damaged, or the rows are not those of the contexts; the text names it.
        """
        ids, skip = store.read_ids(unit), store.attributes.excluded_positions
        array = store.array(unit, "context_token_ids")
        stored = array.read().astype(np.int64)
        numbers, found = np.unique(ids.context_id.numpy(), return_inverse=True)
        length = stored.shape[1] - skip
        of_rows = np.full((len(numbers), length), -1, np.int64)
        position = ids.position.numpy() - skip
        fits = len(numbers) == len(stored) and len(position) == of_rows.size and bool((position < length).all())
        if fits and bool((position >= 0).all()):
            of_rows[found, position] = ids.token_id.numpy()
            order, index = _sorted_rows(of_rows), _sorted_rows(stored[:, skip:])
            if np.array_equal(of_rows[order], stored[index, skip:]):
                place = np.empty_like(index)
                place[order] = index
                context_id = np.empty_like(numbers)
                context_id[place] = numbers
                return cls(
                    ids=ids,
                    context=torch.from_numpy(place[found]),
                    token_ids=torch.from_numpy(stored),
                    context_id=torch.from_numpy(context_id),
                )
        raise TornData(f"{array.folder} has rows that are not those of its contexts; produce the store again")

    def of_row(self, row: int) -> RowContext:
        """Returns the text that a row of the unit comes from."""
        index = int(self.context[row])
        return RowContext(
            token_ids=self.token_ids[index],
            position=int(self.ids.position[row]),
            context_id=int(self.context_id[index]),
            document_id=int(self.ids.document_id[row]),
        )

    def where(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the place of each of some rows in the text: of the tokens of matches, for example.

        Args:
            rows: rows of the unit in stored order, int64 `[n]`; of the matches of a batch these are
                `batch_rows[matches.token]`.

        Returns:
            Index of the context in `token_ids`, and position in it, both int64 `[n]`.
        """
        return self.context[rows], self.ids.position[rows]


def _sorted_rows(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the order that sorts the rows of a matrix by their columns, the first one first; it is stable."""
    if rows.shape[1] == 0:
        return np.arange(len(rows))
    return np.lexsort(rows.T[::-1])
