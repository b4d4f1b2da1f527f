"""Safetensors files, written as a stream and read by row ranges.

safetensors' own writer wants every tensor in host memory at once. This one copies a block of rows at a time, from
whatever device, and digests the bytes on their way; the format (8 bytes of header length, a JSON header, raw
little-endian data) is the public one, so any safetensors reader opens the result. Nothing here can execute a file.
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
from safetensors import SafetensorError, safe_open
from torch import Tensor

from distsae.checkpoint.file_digest import FileDigest
from distsae.checkpoint.state import dtype_name
from distsae.errors import TornData

__all__ = ["read_rows", "write_tensors"]

_BLOCK_BYTES = 64 << 20


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> FileDigest:
    """Creates `path` with `tensors` in it, durably, and returns its size and digest.

    Raises:
        OSError: the disk is full, or the file exists.
    """
    # The widest dtypes come first, as in safetensors' own files: every tensor starts at a multiple of its width.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": dtype_name(tensor.dtype), "shape": list(tensor.shape), "data_offsets": [start, end]}
    words = json.dumps(header, separators=(",", ":")).encode()
    words += b" " * (-len(words) % 8)

    digest, size = hashlib.sha256(), 0
    with path.open("xb") as file:
        for block in (struct.pack("<Q", len(words)), words):
            digest.update(block)
            size += file.write(block)
        for name in names:
            for data in _blocks(tensors[name]):
                digest.update(data)
                size += file.write(data)
        file.flush()
        os.fsync(file.fileno())
    assert size == 8 + len(words) + end, "the bytes written are not the bytes announced"
    return FileDigest(size, digest.hexdigest())


def _blocks(tensor: Tensor) -> Iterator[bytes | memoryview]:
    """The tensor's bytes in order, some rows at a time."""
    rows = tensor.detach().reshape(1) if tensor.dim() == 0 else tensor.detach()
    step = _rows_a_block(rows)
    for start in range(0, len(rows), step):
        block = rows[start : start + step].cpu().contiguous()
        if block.numel():
            yield block.reshape(-1).view(torch.uint8).numpy().data


def _rows_a_block(rows: Tensor) -> int:
    return max(1, _BLOCK_BYTES // max(1, rows.nbytes // max(1, len(rows))))


def read_rows(path: Path, name: str, start: int, into: Tensor) -> None:
    """Fills `into` with the rows `start, start + 1, ...` of tensor `name`; only those rows are read.

    A tensor without dimensions is read whole.

    Raises:
        TornData: the file is not a safetensors file or has no such rows.
    """
    try:
        with torch.no_grad(), safe_open(str(path), framework="pt") as file:
            if into.dim() == 0:
                into.copy_(file.get_tensor(name))
                return
            rows, step = file.get_slice(name), _rows_a_block(into)
            for first in range(0, len(into), step):
                last = min(first + step, len(into))
                block = rows[start + first : start + last]
                if block.shape != into[first:last].shape:
                    raise TornData(f"{path} holds {tuple(block.shape)} where {name} needs {tuple(into.shape)}")
                into[first:last].copy_(block)
    except SafetensorError as error:
        raise TornData(f"{path} cannot be read: {error}") from error
