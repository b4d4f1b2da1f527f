"""Writes a safetensors file in blocks: the library's own writer needs all tensors in memory, in their final form."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distsae.checked_files.safetensors_file import DTYPES
from distsae.model.formats.tensor_writing import Advance, WrittenTensor, fill
from distsae.model.formats.weight_source import BLOCK_BYTES, WeightSource

__all__ = ["write_safetensors"]

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write_safetensors(
    path: Path,
    tensors: Mapping[str, WrittenTensor],
    source: WeightSource,
    advance: Advance = lambda size: None,
    block_bytes: int = BLOCK_BYTES,
) -> None:
    """Creates a safetensors file, and returns when it is on the disk.

    Args:
        path: file to create.
        tensors: tensors of the file by name.
        source: where their values are read from.
        advance: is told of the bytes that have been written.
        block_bytes: bytes of weights that are in memory at once.

    Raises:
        FileExistsError: the file exists.
        WrongInput: a weight is too large for the dtype.
    """
    # The widest dtypes come first, as the safetensors library does it: every tensor starts at a multiple of its width.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offsets: dict[str, int] = {}
    end = 0
    for name in names:
        tensor = tensors[name]
        offsets[name] = end
        end += tensor.nbytes
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offsets[name], end],
        }
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("xb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        file.truncate(8 + len(encoded) + end)
        file.flush()
        for name in names:
            place = 8 + len(encoded) + offsets[name]
            fill(file.fileno(), place, tensors[name], source, advance, block_bytes)
        os.fsync(file.fileno())
