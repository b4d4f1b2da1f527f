"""What goes into a checkpoint: tensors, whole or as a range of rows, and what a rank says about its own.

`Shard` does not mention a mesh. It says which rows of a global tensor this rank holds, for any split, even or not;
that is all that saving and loading need. `Streamed` stands for a tensor that would have to be put together first, as
ZeRO's moments have to be: saving and loading have one of them in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["DTYPES", "JSON", "Shard", "State", "Streamed", "TensorFacts", "Value", "describe", "dtype_name"]

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The dtypes a checkpoint can hold, by their names in safetensors headers."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Streamed:
    """A tensor that is kept in some other form, on this rank or on several.

    Args:
        shape: of the tensor.
        dtype: of the tensor.
        read: puts it together and returns it; may be a collective of the data ranks, which all save and load the same
            tensors in the same order.
        write: takes its new content, and may be a collective likewise.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]
    write: Callable[[Tensor], None]


@dataclass(frozen=True)
class Shard:
    """Rows `[offset, offset + len(local))` of a global tensor whose first dimension is `total`.

    The split is over the feature axis; data ranks with the same feature rank hold the same rows.

    Args:
        local: this rank's rows, `[rows, ...]`; `rows` may be 0 and may differ between feature ranks.
        offset: global index of the first row.
        total: rows of the global tensor.
    """

    local: Tensor | Streamed
    offset: int
    total: int


Value: TypeAlias = Tensor | Streamed | Shard
"""A tensor of a state; one that is not a `Shard` is replicated, equal on every rank."""

State: TypeAlias = dict[str, Value]
"""Tensors by name."""


@dataclass(frozen=True)
class TensorFacts:
    """One rank's view of one tensor.

    Args:
        dtype: safetensors name of the dtype.
        shape: global shape.
        sharded: whether this rank holds only `rows`.
        rows: first and one past the last row on this rank; `(0, 1)` for a tensor without dimensions.
    """

    dtype: str
    shape: tuple[int, ...]
    sharded: bool
    rows: tuple[int, int]


def dtype_name(dtype: torch.dtype) -> str:
    """Returns the safetensors name of `dtype`, or torch's own if safetensors files here cannot hold it."""
    return _NAMES.get(dtype, str(dtype))


def describe(tensors: Mapping[str, Value]) -> dict[str, TensorFacts]:
    """Says what this rank holds, sorted by name."""
    return {name: _facts(tensors[name]) for name in sorted(tensors)}


def _facts(value: Value) -> TensorFacts:
    if isinstance(value, Shard):
        local = value.local
        shape, rows = (value.total, *local.shape[1:]), (value.offset, value.offset + local.shape[0])
        return TensorFacts(dtype_name(local.dtype), shape, True, rows)
    rows = (0, value.shape[0]) if len(value.shape) else (0, 1)
    return TensorFacts(dtype_name(value.dtype), tuple(value.shape), False, rows)
