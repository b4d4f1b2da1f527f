"""The files of an attempt against the sizes and checksums that its commit record promises.

Every file is covered by one crc32c. A chunk whose last codec is crc32c already ends with that of its payload, and the
crc32c of such a whole is the same number for every content; so its record keeps the payload's, and the file's own
trailer must agree. Of every other file (metadata, chunks in other codecs) the record keeps the crc32c of the whole.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from distsae.errors import CannotContinue, TornData
from distsae.store.buffers import page_aligned
from distsae.store.json_files import crc32c
from distsae.store.location import Location
from distsae.store.object_path import ObjectPath
from distsae.store.records import AttemptFile

__all__ = [
    "TRAILER",
    "arrays_with_crc",
    "check_file",
    "ends_with_crc",
    "fill_from",
    "is_metadata",
    "read_chunk_file",
    "read_metadata",
    "read_part",
    "record_files",
    "trails",
]

TRAILER = 4
"""Bytes of the crc32c that a chunk ends with."""


def is_metadata(relative: str) -> bool:
    """Says whether a file of an attempt is a `zarr.json` and not a chunk."""
    return relative == "zarr.json" or relative.endswith("/zarr.json")


def ends_with_crc(metadata: dict[str, Any]) -> bool:
    """Says whether the chunks of the array with this `zarr.json` end with the crc32c of what comes before it."""
    codecs = metadata.get("codecs") or [{}]
    return bool(codecs[-1].get("name") == "crc32c")


def record_files(folder: Path) -> dict[str, AttemptFile]:
    """Returns size and crc32c of every file of an attempt, in any codecs, by its path inside `folder`.

    Raises:
        TornData: a chunk does not have the crc32c that it ends with.
    """
    names = sorted(os.path.relpath(file, folder) for file in folder.rglob("*") if file.is_file())
    trailed = arrays_with_crc({name: json.loads((folder / name).read_bytes()) for name in names if is_metadata(name)})
    return {name: _record(folder / name, trails(name, trailed)) for name in names}


def _record(file: Path, trailing: bool | None) -> AttemptFile:
    content = np.frombuffer(file.read_bytes(), np.uint8)
    if not trailing:
        return AttemptFile(len(content), crc32c(content))
    checksum = crc32c(content[:-TRAILER])
    if checksum != int.from_bytes(content[-TRAILER:].tobytes(), "little"):
        raise TornData(f"{file} was just written and reads back differently: the disk or the memory is faulty")
    return AttemptFile(len(content), checksum)


def check_file(file: Location, promised: AttemptFile, trailing: bool | None) -> np.ndarray:
    """Returns the bytes of a file after comparing them with its record.

    `trailing` says whether it ends with its crc, None if that is not known.

    Raises:
        TornData: the file is missing or is not what the record promises.
    """
    content = _read_promised(file, promised)
    found = [crc32c(content)] if not trailing else []
    if trailing is not False and len(content) >= TRAILER:
        payload = crc32c(content[:-TRAILER])
        found += [payload] if payload == int.from_bytes(content[-TRAILER:].tobytes(), "little") else []
    if promised.crc32c not in found:
        raise _damaged(file)
    return content


def read_metadata(folder: Location, relative: str, files: dict[str, AttemptFile]) -> dict[str, Any]:
    """Returns the content of a `zarr.json` after comparing it with its record.

    Raises:
        TornData: the file is missing, damaged, or not in the commit record.
    """
    if relative not in files:
        raise TornData(f"{folder / relative} is not in the commit record of its unit")
    found: dict[str, Any] = json.loads(check_file(folder / relative, files[relative], trailing=False).tobytes())
    return found


def read_chunk_file(file: Location, promised: AttemptFile, buffer: np.ndarray | None = None) -> np.ndarray:
    """Returns the payload of a chunk that ends with its crc32c: uint8, writable.

    Args:
        file: of the chunk.
        promised: by the commit record.
        buffer: uint8, at least `promised.size` long, best `page_aligned`; the payload is a part of it then. Fresh
            memory takes several times as long to fill as memory that has been used before.

    Raises:
        TornData: the file is missing, or its size or crc32c is not the one that its commit record promised.
    """
    content = page_aligned(promised.size) if buffer is None else buffer[: promised.size]
    beyond = np.empty(1, np.uint8)
    size = _fill(file, promised, [content, beyond], 0)
    if size != promised.size:
        found = "more" if size > promised.size else size
        raise TornData(f"{file} is damaged: {found} bytes where its commit record promises {promised.size}")
    payload = content[:-TRAILER]
    if crc32c(payload) != promised.crc32c or content[-TRAILER:].tobytes() != _trailer(promised):
        raise _damaged(file)
    return payload


def read_part(file: Location, promised: AttemptFile, offset: int, part: np.ndarray) -> None:
    """Fills `part`, uint8, from byte `offset` on, without a check: for files that have been checked before.

    Raises:
        TornData: the file is missing or has become too short.
    """
    if _fill(file, promised, [part], offset) != len(part):
        raise TornData(f"{file} is damaged: it has become shorter than its commit record promises")


def _fill(file: Location, promised: AttemptFile, buffers: list[np.ndarray], offset: int) -> int:
    """Reads into `buffers`, one after the other, without a copy and without the GIL; returns the bytes read."""
    if isinstance(file, ObjectPath):
        return _fill_from_object(file, promised, buffers, offset)
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        raise _missing(file, promised) from None
    try:
        return fill_from(descriptor, [buffer.data for buffer in buffers], offset)
    finally:
        os.close(descriptor)


def fill_from(descriptor: int, parts: list[memoryview], offset: int) -> int:
    """Reads into `parts`, one after the other, from byte `offset` of an open file; returns the bytes read.

    Without a copy and without the GIL, in one system call up to 2 GB; `parts` is used up.
    """
    done = 0
    while parts and (read := os.preadv(descriptor, parts, offset + done)):
        done += read
        while parts and read >= len(parts[0]):
            read -= len(parts.pop(0))
        if read:
            parts[0] = parts[0][read:]
    return done


def _fill_from_object(file: ObjectPath, promised: AttemptFile, buffers: list[np.ndarray], offset: int) -> int:
    try:
        content = np.frombuffer(file.read_range(offset, sum(map(len, buffers))), np.uint8)
    except FileNotFoundError:
        raise _missing(file, promised) from None
    except CannotContinue:
        if file.stat().st_size > offset:
            raise
        return 0  # servers refuse a range that begins behind the end
    done = 0
    for buffer in buffers:
        part = content[done : done + len(buffer)]
        buffer[: len(part)] = part
        done += len(part)
    return done


def trails(name: str, arrays: dict[str, bool]) -> bool | None:
    """Says whether file `name` ends with its crc32c, given that of each array's chunks; None if none owns it."""
    if is_metadata(name):
        return False
    owner = max((array for array in arrays if name.startswith(f"{array}/")), key=len, default=None)
    return None if owner is None else arrays[owner]


def arrays_with_crc(metadata: dict[str, dict[str, Any]]) -> dict[str, bool]:
    """Says of every array, given the `zarr.json` files of an attempt, whether its chunks end with their crc32c."""
    return {
        name.removesuffix("/zarr.json"): ends_with_crc(values)
        for name, values in metadata.items()
        if values.get("node_type") == "array"
    }


def _read_promised(file: Location, promised: AttemptFile) -> np.ndarray:
    try:
        content = np.frombuffer(file.read_bytes(), np.uint8)
    except FileNotFoundError:
        raise _missing(file, promised) from None
    if len(content) != promised.size:
        raise TornData(f"{file} is damaged: {len(content)} bytes where its commit record promises {promised.size}")
    return content


def _trailer(promised: AttemptFile) -> bytes:
    return promised.crc32c.to_bytes(TRAILER, "little")


def _missing(file: Location, promised: AttemptFile) -> TornData:
    return TornData(f"{file} is missing; its unit's commit record promises {promised.size} bytes")


def _damaged(file: Location) -> TornData:
    return TornData(f"{file} is damaged: its crc32c is not the one in its commit record")
