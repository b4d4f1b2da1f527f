"""Writes the file that `torch.save` makes of a dict of tensors, in blocks.

`torch.save` needs all tensors in memory, in their final form. Under `torch.serialization.skip_data` it writes the same
archive with room instead of their bytes. The room is filled here, and then the archive gets the checksums of what is in
it, without which other readers of zip files would call it damaged.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch

from distsae.model.formats.tensor_writing import Advance, WrittenTensor, fill
from distsae.model.formats.weight_source import BLOCK_BYTES, WeightSource

__all__ = ["write_torch_archive"]

_LOCAL = struct.Struct("<4s22xHH")
"""Header of a member: its signature, and the lengths of its name and its extra field, behind which its bytes begin."""

_CENTRAL = struct.Struct("<4s24xHHH12x")
"""Entry of the directory: its signature, and the lengths of name, extra field and comment, which are behind it."""

_CHECKSUM_IN_CENTRAL = 16
_DESCRIPTOR = b"PK\x07\x08"


def write_torch_archive(
    path: Path,
    tensors: Mapping[str, WrittenTensor],
    source: WeightSource,
    advance: Advance = lambda size: None,
    block_bytes: int = BLOCK_BYTES,
) -> None:
    """Creates a file that `torch.load(path, weights_only=True)` reads, and returns when it is on the disk.

    Args:
        path: file to create.
        tensors: tensors of the file by name.
        source: where their values are read from.
        advance: is told of the bytes that have been written.
        block_bytes: bytes of weights that are in memory at once.

    Raises:
        WrongInput: a weight is too large for the dtype.
        OSError: the disk is full.
    """
    # Memory that nobody writes to is never given.
    empty = {name: torch.empty(tensor.shape, dtype=tensor.dtype) for name, tensor in tensors.items()}
    try:
        with torch.serialization.skip_data():
            torch.save(empty, path)
    except RuntimeError as error:  # which is how torch reports a full disk
        raise OSError(" ".join(str(error).splitlines()[0].split())) from error
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        directory = archive.start_dir
    with path.open("r+b") as file:
        for number, tensor in enumerate(tensors.values()):
            member = members[f"data/{number}"]
            assert member.file_size == tensor.nbytes, "torch.save has left room of another size"
            begin = _begin(file.fileno(), member.header_offset)
            fill(file.fileno(), begin, tensor, source, advance, block_bytes)
            _write_checksum(file.fileno(), begin, member, directory, block_bytes)
        os.fsync(file.fileno())


def _begin(descriptor: int, header: int) -> int:
    signature, name, extra = _LOCAL.unpack(os.pread(descriptor, _LOCAL.size, header))
    assert signature == b"PK\x03\x04"
    return header + _LOCAL.size + int(name) + int(extra)


def _write_checksum(descriptor: int, begin: int, member: zipfile.ZipInfo, directory: int, block_bytes: int) -> None:
    """Writes the checksum of a member's bytes behind them, and into the directory of the archive."""
    end = begin + member.file_size
    checksum = 0
    for place in range(begin, end, block_bytes):
        checksum = zlib.crc32(os.pread(descriptor, min(block_bytes, end - place), place), checksum)
    encoded = struct.pack("<I", checksum)
    assert os.pread(descriptor, 4, end) == _DESCRIPTOR
    os.pwrite(descriptor, encoded, end + 4)
    entry = directory
    while True:
        signature, name, extra, comment = _CENTRAL.unpack(os.pread(descriptor, _CENTRAL.size, entry))
        assert signature == b"PK\x01\x02"
        named = os.pread(descriptor, name, entry + _CENTRAL.size)
        if named == member.filename.encode():
            os.pwrite(descriptor, encoded, entry + _CHECKSUM_IN_CENTRAL)
            return
        entry += _CENTRAL.size + name + extra + comment
