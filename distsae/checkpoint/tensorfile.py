"""Safetensors files, written as a stream and read by row ranges.

The writer of the safetensors library needs every tensor in host memory at once. This one copies a block of rows at a
time, from any device, and computes the digest while it writes. The format (8 bytes of header length, a JSON header, raw
little-endian data) is the public one, so any safetensors reader opens the file. Nothing here can execute a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distsae.checked_files.safetensors_file import SafetensorsFile
from distsae.checkpoint.file_digest import FileDigest
from distsae.checkpoint.state import dtype_name

__all__ = ["read_rows", "write_tensors"]

_BLOCK_BYTES = 64 << 20


def write_tensors(path: Path, tensors: Mapping[str, Tensor], block_bytes: int = _BLOCK_BYTES) -> FileDigest:
    """Creates a file of tensors, returns when it is on the disk, and gives its size and digest.

    Args:
        path: file to create.
        tensors: tensors to write, by name, on any device.
        block_bytes: bytes of rows that are copied to host memory at a time; one row at least is.

    Raises:
        OSError: the disk is full, or the file exists.
    """
    # The widest dtypes come first, as the safetensors library does it: every tensor starts at a multiple of its width.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": dtype_name(tensor.dtype), "shape": list(tensor.shape), "data_offsets": [start, end]}
    encoded_header = json.dumps(header, separators=(",", ":")).encode()
    encoded_header += b" " * (-len(encoded_header) % 8)

    digest = hashlib.sha256()
    size = 0
    with path.open("xb") as file:
        for part in (struct.pack("<Q", len(encoded_header)), encoded_header):
            digest.update(part)
            size += file.write(part)
        for name in names:
            for block in _blocks(tensors[name], block_bytes):
                digest.update(block)
                size += file.write(block)
        file.flush()
        os.fsync(file.fileno())
    assert size == 8 + len(encoded_header) + end, "the file has another size than its header announces"
    return FileDigest(size, digest.hexdigest())


def _blocks(tensor: Tensor, block_bytes: int) -> Iterator[memoryview]:
    """Yields the bytes of a tensor in order, some rows at a time."""
    rows = tensor.detach().reshape(1) if tensor.dim() == 0 else tensor.detach()
    step = _rows_per_block(rows, block_bytes)
    for start in range(0, len(rows), step):
        block = rows[start : start + step].cpu().contiguous()
        if block.numel():
            yield block.reshape(-1).view(torch.uint8).numpy().data


def _rows_per_block(rows: Tensor, block_bytes: int) -> int:
    row_bytes = max(1, rows.nbytes // max(1, len(rows)))
    return max(1, block_bytes // row_bytes)


def read_rows(path: Path, name: str, start: int, into: Tensor, block_bytes: int = _BLOCK_BYTES) -> None:
    """Fills `into` with rows `start, start + 1, ...` of a tensor, and reads no other rows.

    A tensor without dimensions is read whole.

    Args:
        path: safetensors file.
        name: name of the tensor in the file.
        start: index in the file of the first row to read.
        into: tensor to fill, on any device.
        block_bytes: bytes of rows that are read at a time; one row at least is.

    Raises:
        TornData: the file is not a safetensors file, or has no such rows.
    """
    with torch.no_grad(), SafetensorsFile(path, path.parent) as file:
        file.read_rows(name, start, into, block_bytes)
