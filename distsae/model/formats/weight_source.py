"""Where weights are read from while they are written in another form: an SAE in memory, or its file, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor

from distsae.checked_files.safetensors_file import DTYPES, SafetensorsFile

__all__ = ["BLOCK_BYTES", "FileWeights", "MemoryWeights", "WeightSource", "row_blocks"]

BLOCK_BYTES = 64 << 20
"""Bytes of weights that are in memory at once, beside a converted copy of them."""


class WeightSource(Protocol):
    """The tensors of an SAE, of which parts are asked for."""

    def names(self) -> tuple[str, ...]:
        """Returns the names of the tensors."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a tensor."""
        ...

    def dtype(self, name: str) -> torch.dtype:
        """Returns the dtype of a tensor."""
        ...

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """Returns rows of a tensor, from `first` to `last`, exclusive, on the CPU."""
        ...

    def columns(self, name: str, first: int, last: int) -> Tensor:
        """Returns columns of a matrix, from `first` to `last`, exclusive, on the CPU, `[rows, last - first]`."""
        ...


class MemoryWeights:
    """The tensors of an SAE in memory, on any device.

    Args:
        tensors: tensors by name.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = {name: tensor.detach() for name, tensor in tensors.items()}

    def names(self) -> tuple[str, ...]:
        """Returns the names of the tensors."""
        return tuple(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a tensor."""
        return tuple(self._tensors[name].shape)

    def dtype(self, name: str) -> torch.dtype:
        """Returns the dtype of a tensor."""
        return self._tensors[name].dtype

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """Returns rows of a tensor."""
        tensor = self._tensors[name]
        return (tensor if tensor.dim() else tensor.reshape(1))[first:last].cpu()

    def columns(self, name: str, first: int, last: int) -> Tensor:
        """Returns columns of a matrix."""
        return self._tensors[name][:, first:last].cpu()


class FileWeights:
    """The tensors of an SAE in its safetensors file.

    Args:
        file: the file, which stays open while parts are asked for.
    """

    def __init__(self, file: SafetensorsFile) -> None:
        self._file = file

    def names(self) -> tuple[str, ...]:
        """Returns the names of the tensors."""
        return tuple(self._file.entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a tensor."""
        return self._file.entries[name].shape

    def dtype(self, name: str) -> torch.dtype:
        """Returns the dtype of a tensor."""
        return DTYPES[self._file.entries[name].dtype]

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """Returns rows of a tensor; only these are read."""
        into = torch.empty((last - first, *self.shape(name)[1:]), dtype=self.dtype(name))
        self._file.read_rows(name, first, into)
        return into

    def columns(self, name: str, first: int, last: int) -> Tensor:
        """Returns columns of a matrix; only these are read, row by row."""
        into = torch.empty((self.shape(name)[0], last - first), dtype=self.dtype(name))
        self._file.read_columns(name, first, into)
        return into


def row_blocks(source: WeightSource, name: str, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, Tensor]]:
    """Yields `(first row, rows)` of a tensor, in order; one without dimensions has one row.

    Args:
        source: where the tensor is.
        name: name of the tensor.
        block_bytes: bytes of a block; one row at least is read.
    """
    shape = source.shape(name) or (1,)
    row_bytes = source.dtype(name).itemsize
    for length in shape[1:]:
        row_bytes *= length
    step = max(block_bytes // max(row_bytes, 1), 1)
    for first in range(0, shape[0], step):
        yield first, source.rows(name, first, min(first + step, shape[0]))
