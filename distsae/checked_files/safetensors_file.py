"""Tensors from a safetensors file of others: its header is compared with its size, and only what is asked for is read.

The safetensors library maps files into memory, which some file systems cannot do. This reads them as any other file,
straight into the memory of the tensors. It imports torch and stays out of the supervisor for that reason.
"""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated

import torch
from torch import Tensor

from distsae.checked_files.json_text import parse_json
from distsae.checked_files.plain_names import shown
from distsae.checked_files.regular_files import open_regular
from distsae.checked_files.typed_fields import Between, WrongField, typed
from distsae.errors import TornData

__all__ = ["DTYPES", "SafetensorsFile"]

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
"""The dtypes that are read and written, by their names in safetensors headers."""

_MOST_HEADER = 100_000_000
"""Largest header in bytes, as in the safetensors library."""

_BLOCK_BYTES = 64 << 20
_Size = Annotated[int, Between(0)]


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """A tensor in the header of a safetensors file; the offsets count from the end of the header."""

    dtype: str
    shape: tuple[_Size, ...]
    data_offsets: tuple[_Size, _Size]


class SafetensorsFile:
    """A safetensors file that is open for reading, in a `with` block.

    Args:
        path: the file.
        inside: folder that contains it, as for `open_regular`; None if links are followed.

    Attributes:
        entries: the tensors in the file, by name.

    Raises:
        FileNotFoundError: there is no such file.
        TornData: it is not a safetensors file, or has another size than its header says; the text names it.
    """

    def __init__(self, path: Path, inside: Path | None = None) -> None:
        self.path = path
        self._file = io.FileIO(open_regular(path, inside), closefd=True)
        try:
            self.entries = self._header()
        except WrongField as error:
            self._file.close()
            raise TornData(f"{path} is damaged: its header is not that of a safetensors file: {error}") from None
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> SafetensorsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def tensor(self, name: str) -> Tensor:
        """Returns a tensor of the file, on the CPU."""
        entry = self.entries[name]
        tensor = torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
        self.read_rows(name, 0, tensor)
        return tensor

    def read_rows(self, name: str, start: int, into: Tensor, block_bytes: int = _BLOCK_BYTES) -> None:
        """Fills `into` with rows `start, start + 1, ...` of a tensor, and reads no other rows.

        A tensor without dimensions is read whole. Numbers of another dtype are converted.

        Args:
            name: name of the tensor in the file.
            start: index of the first row to read.
            into: tensor to fill, on any device.
            block_bytes: bytes of rows that are read at a time; one row at least is.

        Raises:
            TornData: the file has no such rows, or has become shorter; the text names it.
        """
        if name not in self.entries:
            raise TornData(f"{self.path} has no tensor {shown(name)}")
        entry = self.entries[name]
        rows = entry.shape[0] if entry.shape else 0
        fits = not entry.shape if into.dim() == 0 else rows >= start + len(into) and entry.shape[1:] == into.shape[1:]
        if not fits:
            raise TornData(f"{self.path} has {entry.shape} where `{name}` needs {tuple(into.shape)} from row {start}")
        target = into.detach().reshape(1) if into.dim() == 0 else into.detach()
        dtype = DTYPES[entry.dtype]
        row_bytes = math.prod(entry.shape[1:]) * dtype.itemsize
        step = max(1, block_bytes // max(1, row_bytes))
        self._file.seek(self._data + entry.data_offsets[0] + start * row_bytes)
        direct = target.device.type == "cpu" and target.dtype == dtype and target.is_contiguous()
        for first in range(0, len(target), step):
            part = target[first : first + step]
            block = part if direct else torch.empty(part.shape, dtype=dtype)
            if block.numel():
                self._fill(block.reshape(-1).view(torch.uint8).numpy().data)
            if not direct:
                part.copy_(block)

    def read_columns(self, name: str, start: int, into: Tensor) -> None:
        """Fills `into` with columns `start, start + 1, ...` of a matrix, and reads no other columns.

        Args:
            name: name of the matrix in the file.
            start: index of the first column to read.
            into: contiguous tensor `[rows, columns]` of the matrix's dtype, on the CPU.

        Raises:
            TornData: the file has no such columns, or has become shorter; the text names it.
        """
        entry = self.entries[name]
        if len(entry.shape) != 2 or len(into) != entry.shape[0] or start + into.shape[1] > entry.shape[1]:
            raise TornData(
                f"{self.path} has {entry.shape} where `{name}` needs {tuple(into.shape)} from column {start}"
            )
        width = DTYPES[entry.dtype].itemsize
        for row, target in enumerate(into):
            self._file.seek(self._data + entry.data_offsets[0] + (row * entry.shape[1] + start) * width)
            self._fill(target.view(torch.uint8).numpy().data)

    def _header(self) -> dict[str, TensorEntry]:
        """Returns the tensors that the header names; they lie one behind the other, up to the end of the file."""
        size = os.fstat(self._file.fileno()).st_size
        length = int.from_bytes(self._file.read(8), "little")
        if size < 8 or length > min(_MOST_HEADER, size - 8):
            raise WrongField(f"it must have a header that fits into {size:,} bytes; got {shown(length)}")
        self._data = 8 + length
        text = bytearray(length)
        self._fill(memoryview(text))
        values = parse_json(bytes(text), f"{self.path} is damaged: its header")
        if isinstance(values, dict):
            values.pop("__metadata__", None)
        entries = typed(dict[str, TensorEntry], values)
        end = 0
        for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
            if entry.dtype not in DTYPES:
                raise WrongField(f"{shown(name)} must have one of the dtypes {', '.join(DTYPES)}; got {entry.dtype!a}")
            if entry.data_offsets[0] != end or entry.data_offsets[1] - end != math.prod(entry.shape) * (
                DTYPES[entry.dtype].itemsize
            ):
                raise WrongField(f"{shown(name)} must have the bytes that its shape needs, behind the one before it")
            end = entry.data_offsets[1]
        if self._data + end != size:
            raise WrongField(f"it must be of a file of {self._data + end:,} bytes; got {size:,}")
        return entries

    def _fill(self, content: memoryview) -> None:
        while len(content):
            count = self._file.readinto(content)
            if not count:
                raise TornData(f"{self.path} is damaged: it has become shorter than its header says")
            content = content[count:]
