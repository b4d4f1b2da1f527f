"""The tensors of a checkpoint, whole or as a range of rows, and how a rank describes those that it holds.

A `Shard` does not mention a mesh. It states which rows of a global tensor this rank holds, for any split, even or not,
which is all that saving and loading need. A `Streamed` tensor has to be assembled before it can be read, as the moments
of ZeRO have to be. Saving and loading hold one of these in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from distsae.checked_files.safetensors_file import DTYPES

__all__ = ["DTYPES", "JSON", "Shard", "State", "Streamed", "TensorFacts", "Value", "describe", "dtype_name"]

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Streamed:
    """A tensor that is stored in another form, on this rank or spread over several.

    `read` and `write` may be collectives of the data ranks, because these save and load the same tensors in the same
    order.

    Args:
        shape: shape of the tensor.
        dtype: dtype of the tensor.
        read: assembles the tensor and returns it.
        write: stores new content of the tensor.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]
    write: Callable[[Tensor], None]


@dataclass(frozen=True)
class Shard:
    """Rows `[offset, offset + len(local))` of a global tensor whose first dimension is `total`.

    The split is over the feature axis, and data ranks with the same feature rank hold the same rows; if it is
    `divided`, the split is over both axes, and no two ranks hold the same row.

    Args:
        local: rows of this rank, `[rows, ...]`; `rows` may be 0 and may differ between ranks.
        offset: global index of the first row of this rank.
        total: number of rows of the global tensor.
        divided: whether data ranks hold different rows.
    """

    local: Tensor | Streamed
    offset: int
    total: int
    divided: bool = False


Value: TypeAlias = Tensor | Streamed | Shard
"""A tensor of a state. One that is not a `Shard` is replicated: equal on every rank."""

State: TypeAlias = dict[str, Value]
"""Tensors by name."""


@dataclass(frozen=True)
class TensorFacts:
    """How one rank describes one tensor.

    Args:
        dtype: safetensors name of the dtype.
        shape: global shape.
        sharded: whether the tensor is a `Shard`, of which this rank holds `rows` only.
        rows: rows `[start, stop)` on this rank; `(0, 1)` for a tensor without dimensions.
        divided: whether data ranks of one feature rank hold different rows.
    """

    dtype: str
    shape: tuple[int, ...]
    sharded: bool
    rows: tuple[int, int]
    divided: bool = False


def dtype_name(dtype: torch.dtype) -> str:
    """Returns the safetensors name of `dtype`, or torch's own name if a checkpoint cannot hold it."""
    return _NAMES.get(dtype, str(dtype))


def describe(tensors: Mapping[str, Value]) -> dict[str, TensorFacts]:
    """Returns the description of each tensor that this rank holds, sorted by name."""
    return {name: _facts(tensors[name]) for name in sorted(tensors)}


def _facts(value: Value) -> TensorFacts:
    if isinstance(value, Shard):
        local = value.local
        shape, rows = (value.total, *local.shape[1:]), (value.offset, value.offset + local.shape[0])
        return TensorFacts(dtype_name(local.dtype), shape, True, rows, value.divided)
    rows = (0, value.shape[0]) if len(value.shape) else (0, 1)
    return TensorFacts(dtype_name(value.dtype), tuple(value.shape), False, rows)
