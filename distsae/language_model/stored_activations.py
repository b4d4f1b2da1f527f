"""Compares a model with what a store holds of it, before work that only makes sense with the same model.

Digests are of a model's files. Two models with the same files can still differ: in code that came with them, in weights
that were drawn at random because the files lacked them, or by a fault of the machine. A few stored rows show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distsae.errors import TornData, WrongInput
from distsae.hooks.forward_pass import capture
from distsae.language_model.split_model import input_device
from distsae.store import StoreAttributes, StorePaths, UnitRecord
from distsae.store.layout import CONTEXT_DTYPE, DTYPES, ROW_ARRAYS
from distsae.store.location import Location
from distsae.store.stored_array import StoredArray

__all__ = ["refuse_another_model"]

_CONTEXTS = 4  # contexts that are run; of each, the rows in the first chunk of the unit are compared
_ALLOWED = {"fp32": 0.005, "fp16": 0.1, "bf16": 0.1}  # mean distance by `model_dtype`: devices round differently


def refuse_another_model(
    model: nn.Module, name: str, root: Location, attributes: StoreAttributes, record: UnitRecord, hooks: Sequence[str]
) -> None:
    """Runs a few contexts of a committed unit and compares the activations with the stored ones.

    Args:
        model: the model, on the device where it runs.
        name: name or folder that the user gave.
        root: the store.
        attributes: attributes of the store.
        record: commit record of the unit.
        hooks: hooks of the store to compare.

    Raises:
        WrongInput: the activations are those of another model.
        TornData: a file of the unit is damaged.
        FileNotFoundError: the unit was released meanwhile.
    """
    unit = _StoredUnit(root, attributes, record)
    rows, contexts = unit.some_rows()
    token_ids = unit.token_ids(contexts)
    _refuse_unknown_tokens(token_ids, model, name, root)
    context = torch.from_numpy(np.searchsorted(contexts, unit.context_id[rows]))
    position = torch.from_numpy(unit.position[rows].astype(np.int64))
    captured = capture(model, hooks, token_ids.to(input_device(model)))
    for hook in hooks:
        stored = unit.first_chunk(hook)[torch.from_numpy(rows)]
        distance = _distance(captured[hook].cpu()[context, position].to(stored.dtype), stored)
        known = attributes.model_digest != ""  # of activations that were imported, the dtype of the model is not known
        if not distance <= _ALLOWED[attributes.model_dtype if known else "bf16"]:  # NaN is refused too
            raise WrongInput(
                f"`model` (={name}) must be the one that made the store {root}; got activations at {hook} that differ "
                f"from those in unit {record.index} by {distance:.1%} of their norm; use that model, or another store"
            )


def _refuse_unknown_tokens(token_ids: Tensor, model: nn.Module, name: str, root: Location) -> None:
    least, most = int(token_ids.min()), int(token_ids.max())
    if least < 0:
        raise WrongInput(
            f"`store` (={root}) must have the tokens of its contexts, so that a model can run on them; got a store of "
            "activations without; import them again, with their tokens"
        )
    embeddings = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    if most >= embeddings:
        raise WrongInput(
            f"`model` (={name}) must have an embedding for every token of the store {root}; got the token {most} and "
            f"{embeddings} embeddings; use the model that the activations are from"
        )


class _StoredUnit:
    """The rows of a committed unit, and where they come from.

    Args:
        root: the store.
        attributes: attributes of the store.
        record: commit record of the unit.
    """

    def __init__(self, root: Location, attributes: StoreAttributes, record: UnitRecord) -> None:
        self._folder = StorePaths(root).attempt(record.attempt)
        self._attributes = attributes
        self._record = record
        self.context_id = self._row_array("context_id").read()
        self.position = self._row_array("position").read()

    def some_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows of the first chunk, and the ascending numbers of the few contexts that they are all of."""
        first = self.context_id[: self._attributes.chunk_rows]
        contexts, counts = np.unique(first, return_counts=True)
        chosen = np.sort(contexts[np.argsort(-counts, kind="stable")[:_CONTEXTS]])
        return np.flatnonzero(np.isin(first, chosen)), chosen

    def token_ids(self, contexts: np.ndarray) -> Tensor:
        """Returns the tokens of contexts, int64 `[contexts, length]`; a context is found by the tokens of its rows.

        Raises:
            TornData: a context is not among those of the unit.
        """
        attributes, record = self._attributes, self._record
        shape = (record.contexts, attributes.context_length)
        stored = self._array("context_token_ids", CONTEXT_DTYPE, shape).read()
        row_tokens = self._row_array("token_id").read()
        found = []
        for context in contexts:
            rows = np.flatnonzero(self.context_id == context)
            position = self.position[rows]
            matching = np.flatnonzero((stored[:, position] == row_tokens[rows]).all(1))
            if len(matching) == 0:
                raise TornData(f"{self._folder} has no context with the tokens of its rows; produce the store again")
            found.append(stored[matching[0]])
        return torch.from_numpy(np.stack(found).astype(np.int64))

    def first_chunk(self, hook: str) -> Tensor:
        """Returns the rows of the first chunk at `hook`, in the storage dtype."""
        dtypes = DTYPES[self._attributes.dtype]
        shape = (self._record.rows, self._attributes.d_in[hook])
        return torch.from_numpy(self._array(f"act/{hook}", dtypes.numpy, shape).read_chunk(0)).view(dtypes.torch)

    def _row_array(self, name: str) -> StoredArray:
        return self._array(name, ROW_ARRAYS[name], (self._record.rows,))

    def _array(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> StoredArray:
        return StoredArray(self._folder, name, dtype, shape, self._attributes.chunk_rows, self._record.files)


def _distance(computed: Tensor, stored: Tensor) -> float:
    """Returns the distance of rows in units of the larger norm, the mean over rows that were not left out as zeros."""
    first, second = computed.double(), stored.double()
    norms = torch.maximum(first.norm(dim=1), second.norm(dim=1))
    kept = second.norm(dim=1) > 0
    return float(((first - second).norm(dim=1) / norms)[kept].mean()) if bool(kept.any()) else 0.0
