"""Writes a tensor into its place in a file, in blocks, as it is or transposed.

A transposed matrix is read and written in long pieces. One with few long rows is read by columns, and the transposed
rows are written in order. One with many short rows is read by rows, and each block becomes a piece of every row that is
written.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.errors import WrongInput
from distsae.model.formats.weight_source import BLOCK_BYTES, WeightSource, row_blocks

__all__ = ["Advance", "WrittenTensor", "all_bytes", "fill", "from_source", "from_values"]

Advance = Callable[[int], None]
"""Is told of each number of bytes that has been written."""


@dataclass(frozen=True, eq=False, kw_only=True)
class WrittenTensor:
    """A tensor of the file that is written: its form there, and where its values come from.

    Args:
        shape: shape in the file.
        dtype: dtype in the file.
        values: the values, for a small tensor; None for one that is read from the source.
        source: name of the tensor in the source; None for a small one.
        transposed: whether the source has the transposed matrix.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    values: Tensor | None = None
    source: str | None = None
    transposed: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


def from_source(
    source: WeightSource, name: str, dtype: torch.dtype | None = None, *, transposed: bool = False
) -> WrittenTensor:
    """Returns a tensor that is read from a source, in its own dtype or another one."""
    shape = source.shape(name)
    return WrittenTensor(
        shape=shape[::-1] if transposed else shape,
        dtype=source.dtype(name) if dtype is None else dtype,
        source=name,
        transposed=transposed,
    )


def from_values(values: Tensor, dtype: torch.dtype | None = None) -> WrittenTensor:
    """Returns a small tensor, in its own dtype or another one."""
    return WrittenTensor(shape=tuple(values.shape), dtype=values.dtype if dtype is None else dtype, values=values)


def all_bytes(tensors: Mapping[str, WrittenTensor]) -> int:
    """Returns the bytes of all tensors."""
    return sum(tensor.nbytes for tensor in tensors.values())


def fill(
    descriptor: int,
    offset: int,
    tensor: WrittenTensor,
    source: WeightSource,
    advance: Advance = lambda size: None,
    block_bytes: int = BLOCK_BYTES,
) -> None:
    """Writes a tensor at its place in a file.

    Args:
        descriptor: the file, open for writing.
        offset: place of the tensor's first byte.
        tensor: what is written.
        source: where its values are read from.
        advance: is told of the bytes that have been written.
        block_bytes: bytes of weights that are in memory at once.

    Raises:
        WrongInput: a weight is too large for the dtype.
        OSError: the disk is full.
    """
    if tensor.source is None:
        assert tensor.values is not None
        _write(descriptor, offset, _converted(tensor.values.detach().cpu(), tensor.dtype), advance)
        return
    if not tensor.transposed:
        for first, block in row_blocks(source, tensor.source, block_bytes):
            place = offset + first * math.prod(tensor.shape[1:]) * tensor.dtype.itemsize
            _write(descriptor, place, _converted(block, tensor.dtype), advance)
        return
    rows, columns = source.shape(tensor.source)
    row_bytes = rows * tensor.dtype.itemsize
    if rows <= columns:
        step = max(block_bytes // (rows * source.dtype(tensor.source).itemsize), 1)
        for first in range(0, columns, step):
            block = source.columns(tensor.source, first, min(first + step, columns))
            _write(descriptor, offset + first * row_bytes, _converted(block.t(), tensor.dtype), advance)
        return
    for first, block in row_blocks(source, tensor.source, block_bytes):
        turned = _converted(block.t(), tensor.dtype)
        for row, piece in enumerate(turned):
            _write(descriptor, offset + row * row_bytes + first * tensor.dtype.itemsize, piece, advance)


def _converted(block: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns a copy of a block in another dtype, row by row in memory."""
    converted = torch.empty(block.shape, dtype=dtype).copy_(block)  # `contiguous` leaves odd strides of single columns
    if dtype.is_floating_point and dtype != block.dtype and not bool(converted.isfinite().all()):
        raise WrongInput(
            f"`dtype` must hold the weights of the SAE; got {str(dtype).removeprefix('torch.')}, in which "
            f"{int((~converted.isfinite()).sum()):,} of them are infinite; use bf16 or fp32"
        )
    return converted


def _write(descriptor: int, place: int, block: Tensor, advance: Advance) -> None:
    content = memoryview(block.reshape(-1).view(torch.uint8).numpy().data)
    while len(content):
        written = os.pwrite(descriptor, content, place)
        advance(written)
        place += written
        content = content[written:]
