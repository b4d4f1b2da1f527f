"""One unit's rows, computed: forward passes over its contexts, rows put straight into their final order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from distsae.errors import CannotContinue, WrongInput
from distsae.language_model.hooks import capture, resolve_hook
from distsae.language_model.loading import LanguageModel
from distsae.store import StoreAttributes, UnitData, row_order
from distsae.store.layout import DTYPES
from distsae.text.contexts import Contexts

__all__ = ["check_fits", "compute_unit"]


def compute_unit(
    language_model: LanguageModel,
    attributes: StoreAttributes,
    contexts: Contexts,
    unit: int,
    context_ids: np.ndarray,
    on_rows: Callable[[int], None],
) -> UnitData:
    """Runs the model over a unit's contexts.

    Args:
        language_model: on the device where it is to run.
        attributes: of the store.
        contexts: the whole tokenised corpus.
        unit: number of the unit.
        context_ids: the unit's contexts, in the order in which the model sees them.
        on_rows: called after each forward pass with the number of rows that it gave.

    Raises:
        CannotContinue: an activation is not finite, or does not fit the storage dtype.
    """
    device = next(language_model.model.parameters()).device
    storage, skip = DTYPES[attributes.dtype].torch, attributes.excluded_positions
    rows = len(context_ids) * attributes.rows_per_context
    order = torch.from_numpy(row_order(attributes, unit, rows))
    place = torch.empty_like(order)  # of each natural row
    place[order] = torch.arange(rows)

    picked = torch.from_numpy(context_ids)
    token_ids = contexts.token_ids[picked]
    acts = {hook: torch.empty(rows, attributes.d_in[hook], dtype=storage) for hook in attributes.hooks}
    points = [resolve_hook(language_model.model, hook) for hook in attributes.hooks]
    done = 0
    for start in range(0, len(token_ids), attributes.batch_contexts):
        batch = token_ids[start : start + attributes.batch_contexts]
        count = len(batch) * attributes.rows_per_context
        captured = capture(language_model.model, points, batch.to(device, torch.int64))
        for hook, values in captured.items():
            natural = values[:, skip:].reshape(count, -1)
            acts[hook][place[done : done + count]] = _stored(natural, storage, hook).cpu()
        done += count
        on_rows(count)

    shape = (len(context_ids), attributes.context_length)
    per_row = {
        "token_id": token_ids,
        "position": torch.arange(shape[1]).expand(shape),
        "document_id": contexts.document_id[picked],
        "context_id": picked[:, None].expand(shape),
    }
    ids = {name: values[:, skip:].reshape(rows).to(torch.int64)[order] for name, values in per_row.items()}
    return UnitData(acts=acts, rows=ids, context_token_ids=token_ids)


def check_fits(language_model: LanguageModel, attributes: StoreAttributes, token_ids: Tensor) -> None:
    """Tries one forward pass before the store is begun, so that a dtype that does not serve leaves nothing behind.

    Args:
        language_model: on the device where it is to run.
        attributes: of the store to be.
        token_ids: `[contexts, context_length]`.

    Raises:
        WrongInput: an activation is not finite, or does not fit the storage dtype.
    """
    device = next(language_model.model.parameters()).device
    captured = capture(language_model.model, attributes.hooks, token_ids.to(device, torch.int64))
    for hook, values in captured.items():
        try:
            _stored(values[:, attributes.excluded_positions :], DTYPES[attributes.dtype].torch, hook)
        except CannotContinue as error:  # nothing has begun, so it is still the settings that are wrong
            raise WrongInput(str(error)) from error


def _stored(values: Tensor, storage: torch.dtype, hook: str) -> Tensor:
    stored = values.to(storage)
    # The extremes tell of infinities, and are NaN if anything is; isfinite of every value takes twenty times as long.
    if bool(torch.isfinite(torch.stack(torch.aminmax(stored))).all()):
        return stored
    broken = ~torch.isfinite(values)
    if bool(broken.any()):
        raise CannotContinue(
            f"`model_dtype` must keep activations finite; got {int(broken.sum())} infinities or NaNs at {hook}; use "
            "--model_dtype fp32"
        )
    lost = ~torch.isfinite(stored)
    raise CannotContinue(
        f"`dtype` must hold every activation; got {lost.float().mean().item():.2e} of the values at {hook} beyond "
        f"{torch.finfo(storage).max:g}, the largest {values.abs().max().item():g}; use --dtype bf16"
    )
