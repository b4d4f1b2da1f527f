"""Makes a store of activations of the user's own: any model, any framework, any files.

Rows keep their order from unit to unit and are permuted inside each, so that files are read from one end to the other;
batches are mixed all the same, since they take rows from many chunks of the whole store. Held out are whole documents
where the user says which rows belong together, and the end of the rows otherwise: rows drawn at random would have their
neighbours in training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distsae.checked_files import is_plain, shown
from distsae.errors import WrongInput
from distsae.seeds import numpy_generator
from distsae.store.attributes import StoreAttributes
from distsae.store.commit import begin_store, commit_unit, committed_units, read_attributes, seal_store
from distsae.store.layout import DTYPES
from distsae.store.location import Location, remove_tree
from distsae.store.rounding import refuse_rounding
from distsae.store.row_source import Activations, RowSource, as_source
from distsae.store.unit_plan import row_order, unit_contexts, unit_split
from distsae.store.writer import UnitData, write_attempt

__all__ = ["OwnStoreSettings", "write_own_store"]

_SAMPLED_CONTEXTS = 1024
"""Contexts whose values are hashed, so that a job that goes on is known to have the activations it began with."""


@dataclass(frozen=True, kw_only=True)
class OwnStoreSettings:
    """Settings of a store of the user's own activations.

    Args:
        hook: name of the place in the model that the activations are from; SAEs carry it.
        dtype: dtype to store activations in: auto, fp16, bf16 or fp32. `auto` is that of the activations, fp32 for
            fp64.
        heldout_share: share of the contexts, or of the rows without contexts, that is held out for evaluation.
        excluded_positions: positions at the start of each context that give no rows.
        unit_rows: token rows in a unit, which is held in memory and committed as a whole.
        chunk_rows: token rows in a chunk, the smallest piece of a store that is read.
        seed: seed of the order of rows, and of which documents are held out.
        model: name or folder of the model that the activations are from; recorded.
        prepend_bos: whether each context starts with BOS; recorded.

    Raises:
        WrongInput: a setting is out of its range.
    """

    hook: str = "activations"
    dtype: str = "auto"
    heldout_share: float = 0.02
    excluded_positions: int = 0
    unit_rows: int = 262_144
    chunk_rows: int = 8192
    seed: int = 0
    model: str = ""
    prepend_bos: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in ("auto", *DTYPES):
            raise WrongInput(f"`dtype` (={self.dtype}) must be one of auto, {', '.join(DTYPES)}")
        if not 0 <= self.heldout_share <= 0.5:
            raise WrongInput(
                f"`heldout_share` (={self.heldout_share}) must be from 0 to 0.5; use a share in that range"
            )
        for name, least in {"excluded_positions": 0, "unit_rows": 1, "chunk_rows": 1}.items():
            if getattr(self, name) < least:
                raise WrongInput(f"`{name}` (={getattr(self, name)}) must be at least {least}; use a larger number")
        if not is_plain(self.hook) or "/" in self.hook:
            raise WrongInput(f"`hook` (={shown(self.hook)}) must be a plain name; use one like blocks.3.resid_post")


def write_own_store(
    root: Location,
    activations: Activations,
    *,
    token_ids: Tensor | np.ndarray | None = None,
    document_ids: Tensor | np.ndarray | None = None,
    on_rows: Callable[[int], None] = lambda rows: None,
    **settings: Any,  # noqa: ANN401 (each setting has a type of its own)
) -> None:
    """Writes activations as a sealed store at `root`, or goes on with one that was begun with the same activations.

    Args:
        root: folder or URL of the store.
        activations: floating-point numbers `[rows, d_in]` or `[contexts, length, d_in]`, or an iterator of such arrays,
            which are first written to a temporary file beside the store.
        token_ids: token of each row, whole numbers of the same shape without `d_in`; None if they are not known.
        document_ids: number of the document that each context, or row without a context, is from, so that whole
            documents are held out; None for the last contexts.
        on_rows: function that is called with the number of rows of each unit that is committed.
        settings: fields of `OwnStoreSettings`, such as `hook`, `dtype`, `heldout_share` and `model`.

    Raises:
        WrongInput: activations are not finite, do not fit the dtype, or do not go with the ids; what this call has
            written is removed.
        TornData: the files on disk differ from what was written.
    """
    tokens, documents = (None if ids is None else torch.as_tensor(ids) for ids in (token_ids, document_ids))
    with as_source(activations, root) as source:
        _write(root, source, OwnStoreSettings(**settings), tokens, documents, on_rows)


def _write(
    root: Location,
    source: RowSource,
    settings: OwnStoreSettings,
    token_ids: Tensor | None,
    document_ids: Tensor | None,
    on_rows: Callable[[int], None],
) -> None:
    if source.length <= settings.excluded_positions:
        raise WrongInput(
            f"`excluded_positions` (={settings.excluded_positions}) must be below the length of a context; got "
            f"{source.length} rows in each; use a smaller number"
        )
    shape = (source.contexts, source.length)
    tokens = torch.full((1, 1), -1).expand(shape) if token_ids is None else _fitting(token_ids, "token_ids", shape)
    documents = None if document_ids is None else _fitting(document_ids, "document_ids", shape[:1])
    train, heldout = _held_out(source.contexts, documents, settings)
    order = np.concatenate([train, heldout])
    attributes = _attributes(source, settings, tokens, documents, heldout)
    _refuse_rounding(source, attributes)
    new = read_attributes(root) is None
    begin_store(root, attributes)
    try:
        units = unit_contexts(attributes)
        done = committed_units(root, len(units))
        for unit, contexts in enumerate(units):
            if unit not in done:
                data = _unit(source, attributes, unit, contexts, order[contexts], tokens, documents)
                commit_unit(root, write_attempt(root, attributes, unit, unit_split(attributes, unit, len(units)), data))
            on_rows(len(contexts) * attributes.rows_per_context)
        seal_store(root, attributes)
    except WrongInput:
        if new:
            remove_tree(root)
        raise


def _sample(contexts: int) -> np.ndarray:
    return np.unique(np.linspace(0, contexts - 1, _SAMPLED_CONTEXTS).astype(np.int64))


def _refuse_rounding(source: RowSource, attributes: StoreAttributes) -> None:
    """Refuses a dtype in which too much of the activations would be lost, by a sample of them."""
    rows = source.take(_sample(source.contexts))[:, attributes.excluded_positions :].flatten(0, 1)
    kept = rows[torch.isfinite(rows.to(DTYPES[attributes.dtype].torch)).all(dim=1)]  # others are named with their row
    if len(kept):
        refuse_rounding(kept.float() if kept.dtype.itemsize < 8 else kept, attributes.dtype, attributes.hooks[0])


def _fitting(ids: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
    """Returns ids in the shape of the contexts; rows without contexts are contexts of one."""
    if ids.dtype.is_floating_point or ids.dtype == torch.bool:
        raise WrongInput(f"`{name}` must hold whole numbers; got {ids.dtype}")
    if ids.numel() != int(np.prod(shape)) or (ids.shape != shape and shape[1:] not in ((), (1,))):
        raise WrongInput(f"`{name}` must have the shape {[*shape]}, as the activations do; got {[*ids.shape]}")
    ids = ids.to("cpu", torch.int64).reshape(shape)
    least, most = int(ids.min()), int(ids.max())
    if name == "token_ids" and not -1 <= least <= most < 2**31:
        raise WrongInput(
            f"`token_ids` must be from 0 to {2**31 - 1}, or -1 where one is unknown; got {least} to {most}"
        )
    return ids


def _held_out(contexts: int, documents: Tensor | None, settings: OwnStoreSettings) -> tuple[np.ndarray, np.ndarray]:
    """Returns the numbers of the contexts to train on and of those held out, int64, each ascending.

    Held out are documents, in random order, while they fit into the share; the end of the contexts if none fits.
    """
    wanted = round(settings.heldout_share * contexts)
    everything = np.arange(contexts)
    if documents is not None and wanted:
        numbers, belongs, sizes = np.unique(documents.numpy(), return_inverse=True, return_counts=True)
        chosen, left = np.zeros(len(numbers), bool), wanted
        for document in numpy_generator(settings.seed, "own store", "heldout documents").permutation(len(numbers)):
            if sizes[document] <= left:
                chosen[document] = True
                left -= sizes[document]
        if chosen.any():
            return everything[~chosen[belongs]], everything[chosen[belongs]]
    return everything[: contexts - wanted], everything[contexts - wanted :]


def _attributes(
    source: RowSource, settings: OwnStoreSettings, tokens: Tensor, documents: Tensor | None, heldout: np.ndarray
) -> StoreAttributes:
    names = {torch.float16: "fp16", torch.bfloat16: "bf16"}
    dtype = names.get(source.dtype, "fp32") if settings.dtype == "auto" else settings.dtype
    digest = hashlib.sha256(f"{source.contexts} {source.length} {source.d_in} {source.dtype}".encode())
    sample = _sample(source.contexts)
    digest.update(source.take(sample).contiguous().view(torch.uint8).numpy().data)
    for ids in (tokens, documents):
        digest.update(b"" if ids is None else ids[sample].contiguous().numpy().data)
    return StoreAttributes(
        model=settings.model,
        model_revision="own activations",
        model_digest="",
        tokenizer_digest="",
        corpus="",
        corpus_fingerprint=digest.hexdigest(),
        hooks=(settings.hook,),
        d_in={settings.hook: source.d_in},
        dtype=dtype,  # type: ignore[arg-type]  # one of the three by its check
        context_length=source.length,
        prepend_bos=settings.prepend_bos,
        excluded_positions=settings.excluded_positions,
        unit_rows=settings.unit_rows,
        contexts=source.contexts,
        heldout_contexts=len(heldout),
        seed=settings.seed,
        chunk_rows=settings.chunk_rows,
        heldout_by="end" if documents is None or _is_end_of_a_document(documents, heldout) else "documents",
        heldout_share=settings.heldout_share,
        context_order="given",
    )


def _is_end_of_a_document(documents: Tensor, heldout: np.ndarray) -> bool:
    """Returns whether a document has contexts on both sides, which is so only if no whole one was held out."""
    apart = torch.ones(len(documents), dtype=torch.bool)
    apart[heldout] = False
    return bool(torch.isin(documents[~apart], documents[apart]).any())


def _unit(
    source: RowSource,
    attributes: StoreAttributes,
    unit: int,
    contexts: np.ndarray,
    origins: np.ndarray,
    tokens: Tensor,
    documents: Tensor | None,
) -> UnitData:
    """Returns the rows of a unit in their final order.

    Args:
        source: the activations.
        attributes: attributes of the store.
        unit: number of the unit.
        contexts: numbers of its contexts in the store.
        origins: numbers of the same contexts in `source`, ascending.
        tokens: the tokens of all contexts of the source.
        documents: the document of each context of the source; None if each is its own.
    """
    skipped = attributes.excluded_positions
    acts = source.take(origins)[:, skipped:]
    count, length, d_in = acts.shape
    stored = acts.to(DTYPES[attributes.dtype].torch)
    _check_values(acts, stored, attributes, origins)
    index = torch.from_numpy(origins)
    token_ids = tokens[index]
    rows = {
        "token_id": token_ids[:, skipped:].reshape(-1),
        "position": torch.arange(skipped, skipped + length).repeat(count),
        "document_id": (index if documents is None else documents[index]).repeat_interleave(length),
        "context_id": torch.from_numpy(contexts).repeat_interleave(length),
    }
    order = torch.from_numpy(row_order(attributes, unit, count * length))
    flat = stored.reshape(-1, d_in)[order]
    return UnitData({attributes.hooks[0]: flat}, {name: ids[order] for name, ids in rows.items()}, token_ids.int())


def _check_values(acts: Tensor, stored: Tensor, attributes: StoreAttributes, origins: np.ndarray) -> None:
    if bool(torch.isfinite(torch.stack(torch.aminmax(stored))).all()):
        return
    broken = ~torch.isfinite(stored).all(dim=2)
    context, row = (int(place) for place in broken.nonzero()[0])
    where = f"row {row + attributes.excluded_positions} of context {int(origins[context])}"
    if not bool(torch.isfinite(acts[context, row]).all()):
        raise WrongInput(f"`activations` must be finite; got an infinity or NaN in {where}; leave such rows out")
    raise WrongInput(
        f"`dtype` (={attributes.dtype}) must hold every activation; got {acts[context, row].abs().max().item():g} in "
        f"{where}, beyond {torch.finfo(stored.dtype).max:g}; "
        f"{'scale them down' if stored.dtype == torch.float32 else 'use bf16 or fp32'}"
    )
