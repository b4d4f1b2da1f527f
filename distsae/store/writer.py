"""Writes the rows of one unit as an attempt: a Zarr v3 group in which every chunk is present and checked.

Each attempt has a unique name, so that writers never collide; it becomes part of the store with its commit record
(`commit.py`). zarr-python writes the chunks one by one, uncompressed, each with its crc32c.
"""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
import zarr.codecs
from torch import Tensor
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from distsae.errors import TornData
from distsae.store.attempt_files import is_metadata, record_files
from distsae.store.attributes import StoreAttributes
from distsae.store.delivery import delivered
from distsae.store.layout import CONTEXT_DTYPE, DTYPES, ROW_ARRAYS, StorePaths, chunk_count
from distsae.store.location import Location
from distsae.store.norm_histogram import NormHistogram
from distsae.store.records import FileChecksum, HookSums, Split, UnitRecord

__all__ = ["UnitData", "write_attempt"]

_SUM_ROWS = 256
_CONTEXTS = "context_token_ids"


class UnitData:
    """The rows of one unit in memory, in their final order.

    Args:
        acts: activations at each hook, `[rows, d_in]` in the storage dtype.
        rows: `token_id`, `position`, `document_id` and `context_id` of the rows, each int64 `[rows]`.
        context_token_ids: token ids of the whole contexts, int32 `[contexts, context_length]`, excluded positions
            included.
    """

    def __init__(self, acts: dict[str, Tensor], rows: dict[str, Tensor], context_token_ids: Tensor) -> None:
        self.acts = acts
        self.rows = rows
        self.context_token_ids = context_token_ids

    def __len__(self) -> int:
        return len(self.rows["token_id"])


class AttemptStore(LocalStore):  # type: ignore[misc]  # zarr is untyped here
    """The folder of an attempt, for zarr-python: no other process writes there, so no file needs a race.

    zarr-python does that for metadata, by a hard link, which some file systems lack.
    """

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Writes a file unless it exists."""
        if not await self.exists(key):
            await self.set(key, value)


def write_attempt(root: Location, attributes: StoreAttributes, unit: int, split: Split, data: UnitData) -> UnitRecord:
    """Writes a unit under a unique name, checks it and forces it to the disk.

    Args:
        root: folder of the store.
        attributes: attributes of the store.
        unit: number of the unit.
        split: `"train"` or `"heldout"`.
        data: rows of the unit.

    Returns:
        The record with which `commit_unit` makes the attempt part of the store.

    Raises:
        TornData: the files on disk are not what was written, or another process removed some of them.
    """
    paths = StorePaths(root)
    attempt = f"{paths.unit_name(unit)}/{uuid.uuid4().hex}"
    folder = paths.attempt(attempt)
    arrays = {name: data.rows[name].numpy().astype(dtype) for name, dtype in ROW_ARRAYS.items()}
    acts = {hook: _as_numpy(data.acts[hook], DTYPES[attributes.dtype].numpy) for hook in attributes.hooks}

    excluded = torch.isin(data.rows["token_id"], torch.tensor(attributes.excluded_tokens, dtype=torch.int64))
    kept = _without(data, excluded) if bool(excluded.any()) else data
    contexts = data.context_token_ids.numpy().astype(CONTEXT_DTYPE)
    with delivered(folder, root) as local:
        files = _write_group(local, attributes, {"unit": unit, "split": split}, {**arrays, _CONTEXTS: contexts}, acts)
    return UnitRecord(
        index=unit,
        split=split,
        attempt=attempt,
        contexts=len(contexts),
        rows=len(data),
        fingerprint=attributes.fingerprint(),
        digest=_digest([*arrays.values(), contexts, *acts.values()]),
        sums={hook: _sums(kept.acts[hook], kept.rows) for hook in attributes.hooks},
        files=files,
        excluded_rows=len(data) - len(kept),
    )


def _without(data: UnitData, excluded: Tensor) -> UnitData:
    """Returns the rows that are not excluded; `excluded` is bool `[rows]`."""
    acts = {hook: rows[~excluded] for hook, rows in data.acts.items()}
    return UnitData(acts, {name: ids[~excluded] for name, ids in data.rows.items()}, data.context_token_ids)


def _write_group(
    folder: Path,
    attributes: StoreAttributes,
    unit_facts: dict[str, Any],
    arrays: dict[str, np.ndarray],
    acts: dict[str, np.ndarray],
) -> dict[str, FileChecksum]:
    """Writes the Zarr group of an attempt, reads its files back and returns their records."""
    group_attributes = {"distsae": {**unit_facts, **attributes.to_json()}}
    group = zarr.open_group(AttemptStore(folder), mode="w-", zarr_format=3, attributes=group_attributes)
    storage = DTYPES[attributes.dtype]
    chunk_rows = attributes.chunk_rows
    for name, array in arrays.items():
        _write_array(group, name, array, max(len(array), 1), -1)  # in one chunk: one file, as it is read whole
    act_group = group.create_group("act")
    for hook, array in acts.items():
        _write_array(act_group, hook, array, chunk_rows, storage.fill, logical_dtype=storage.logical)

    files = record_files(folder)
    chunks = sum(1 for name in files if not is_metadata(name))
    expected = sum(len(array) > 0 for array in arrays.values())
    expected += sum(chunk_count(len(array), chunk_rows) for array in acts.values())
    if chunks != expected:
        raise TornData(
            f"{folder} lost files while it was written: {chunks} of {expected} chunks are there; run the command again"
        )
    return files


def _write_array(
    group: zarr.Group, name: str, array: np.ndarray, chunk_rows: int, fill: float | int, **attributes: str
) -> None:
    stored = group.create_array(
        name,
        shape=array.shape,
        chunks=(min(chunk_rows, len(array)), *array.shape[1:]),  # a small unit is not padded to a whole chunk
        dtype=array.dtype,
        compressors=(zarr.codecs.Crc32cCodec(),),
        fill_value=fill,
        attributes=attributes,
        config={"write_empty_chunks": True},
    )
    for start in range(0, len(array), chunk_rows):
        stored[start : start + chunk_rows] = array[start : start + chunk_rows]


def _as_numpy(acts: Tensor, dtype: np.dtype[Any]) -> np.ndarray:
    if acts.dtype == torch.bfloat16:
        acts = acts.view(torch.uint16)
    array: np.ndarray = acts.numpy()
    return array.astype(dtype, copy=False)


def _digest(arrays: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _sums(acts: Tensor, rows: dict[str, Tensor]) -> HookSums:
    total = np.zeros(acts.shape[1])
    norm = norm_squared = 0.0
    buffer = torch.empty(min(_SUM_ROWS, len(acts)), acts.shape[1], dtype=torch.float64)  # fresh memory would be slow
    for start in range(0, len(acts), _SUM_ROWS):
        part = acts[start : start + _SUM_ROWS]
        # NumPy sums in the same order for any number of threads; torch does not.
        x = buffer[: len(part)].copy_(part).numpy()
        squared = np.einsum("ij,ij->i", x, x)
        total += x.sum(axis=0)
        norm += float(np.sqrt(squared).sum())
        norm_squared += float(squared.sum())
    norms = NormHistogram.of(acts, rows["position"], rows["token_id"])
    return HookSums(x=total.tolist(), norm=norm, norm_squared=norm_squared, norms=norms)
