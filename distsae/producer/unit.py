"""Computes the rows of one unit by forward passes over its contexts, and stores each row at its final index."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from distsae.errors import CannotContinue, WrongInput
from distsae.language_model import LanguageModel, capture, input_device, resolve_hook
from distsae.producer.row_copies import RowCopies, stored
from distsae.store import StoreAttributes, UnitData, row_order
from distsae.store.layout import DTYPES
from distsae.store.rounding import refuse_rounding
from distsae.text import Contexts

__all__ = ["check_fits", "compute_unit"]


def compute_unit(
    language_model: LanguageModel,
    attributes: StoreAttributes,
    contexts: Contexts,
    unit: int,
    context_ids: np.ndarray,
    on_rows: Callable[[int], None],
) -> UnitData:
    """Runs the model over a unit's contexts and returns the unit's rows in stored order.

    Args:
        language_model: language model, on the device where it runs.
        attributes: attributes of the store.
        contexts: the whole tokenised corpus.
        unit: index of the unit.
        context_ids: numbers of the unit's contexts, in the order in which the model sees them.
        on_rows: function that is called after each forward pass with the number of rows computed in it.

    Raises:
        CannotContinue: an activation is not finite, or does not fit the storage dtype; or all rows are excluded.
    """
    device = input_device(language_model.model)
    storage = DTYPES[attributes.dtype].torch
    skip = attributes.excluded_positions
    rows = len(context_ids) * attributes.rows_per_context
    order = torch.from_numpy(row_order(attributes, unit, rows))
    stored_index = torch.empty_like(order)  # index in stored order, for each row in natural order
    stored_index[order] = torch.arange(rows)

    context_id = torch.from_numpy(context_ids)
    token_ids = contexts.token_ids[context_id]
    excluded = torch.isin(token_ids[:, skip:], torch.tensor(attributes.excluded_tokens, dtype=token_ids.dtype))
    if bool(excluded.all()):
        raise CannotContinue(
            f"`excluded_tokens` (={list(attributes.excluded_tokens)}) must leave rows in every unit; got none in unit "
            f"{unit}; exclude fewer tokens, or use another corpus"
        )
    acts = {hook: torch.empty(rows, attributes.d_in[hook], dtype=storage) for hook in attributes.hooks}
    points = [resolve_hook(language_model.model, hook) for hook in attributes.hooks]
    given = token_ids.to(device, torch.int64)
    done = 0
    with RowCopies(acts) as copies:
        for start in range(0, len(given), attributes.batch_contexts):
            batch = given[start : start + attributes.batch_contexts]
            count = len(batch) * attributes.rows_per_context
            captured = capture(language_model.model, points, batch)
            computed = {hook: values[:, skip:].reshape(count, -1) for hook, values in captured.items()}
            copies.put(computed, stored_index[done : done + count])
            done += count
            on_rows(count)
    for rows_at_hook in acts.values():
        rows_at_hook[stored_index[excluded.flatten()]] = 0

    shape = (len(context_ids), attributes.context_length)
    per_row = {
        "token_id": token_ids,
        "position": torch.arange(shape[1]).expand(shape),
        "document_id": contexts.document_id[context_id],
        "context_id": context_id[:, None].expand(shape),
    }
    ids = {name: values[:, skip:].reshape(rows).to(torch.int64)[order] for name, values in per_row.items()}
    return UnitData(acts=acts, rows=ids, context_token_ids=token_ids)


def check_fits(language_model: LanguageModel, attributes: StoreAttributes, token_ids: Tensor) -> None:
    """Checks in one forward pass that the dtypes fit, before a store is created that a failure would leave behind.

    Args:
        language_model: language model, on the device where it runs.
        attributes: attributes of the store that is to be created.
        token_ids: contexts to run, `[contexts, context_length]`.

    Raises:
        WrongInput: an activation is not finite or does not fit the storage dtype, or too much is lost in it.
    """
    device = input_device(language_model.model)
    captured = capture(language_model.model, attributes.hooks, token_ids.to(device, torch.int64))
    for hook, values in captured.items():
        rows = values[:, attributes.excluded_positions :].flatten(0, 1)
        try:
            stored(rows, DTYPES[attributes.dtype].torch, hook)
        except CannotContinue as error:  # no work has been done, so a wrong setting is the cause
            raise WrongInput(str(error)) from error
        refuse_rounding(rows.float(), attributes.dtype, hook)
