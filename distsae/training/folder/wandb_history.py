"""Which steps wandb's local files of a run have already: a process that was killed leaves them cut anywhere.

A `.wandb` file is a log in the format of LevelDB: blocks of 32 KiB, filled with pieces of records, each with a header
of checksum, length and kind. The library writes it through a buffer, so a kill loses the end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

__all__ = ["last_step"]

_PREAMBLE = 7
_BLOCK = 32768
_HEADER = struct.Struct("<IHB")
_WHOLE, _LAST = 1, 4
"""Kinds of a piece that end a record; the others are its first and its middle ones."""


def last_step(folder: Path, identity: str) -> int:
    """Returns the last step that any local file of a run has; -1 if none has any.

    Args:
        folder: folder of the run, in which wandb keeps its own folder.
        identity: id of the run in wandb.
    """
    files = sorted(folder.glob(f"wandb/*run-*/run-{identity}.wandb"))
    return max((step for file in files for step in _steps(file)), default=-1)


def _steps(file: Path) -> Iterator[int]:
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record

    for content in _records(file.read_bytes()):
        record = Record()
        try:
            record.ParseFromString(content)
        except DecodeError:
            return  # what follows damage is not read by wandb either
        if record.HasField("history"):
            yield int(record.history.step.num)


def _records(content: bytes) -> Iterator[bytes]:
    """Yields the records of a file up to where it was cut."""
    position = _PREAMBLE
    record = b""
    while position + _HEADER.size <= len(content):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER.size:  # the rest of a block is padding
            position += left
            continue
        _, length, kind = _HEADER.unpack_from(content, position)
        position += _HEADER.size
        if kind == 0 or position + length > len(content):
            return
        record += content[position : position + length]
        position += length
        if kind in (_WHOLE, _LAST):
            yield record
            record = b""
