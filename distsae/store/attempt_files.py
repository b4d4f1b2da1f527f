"""Compares the files of an attempt with the sizes and checksums that its commit record promises.

Every file is covered by one crc32c. A chunk whose last codec is crc32c ends with the crc32c of its payload, and the
crc32c of a payload together with its own crc32c is the same number for every payload. So the record keeps the crc32c of
the payload, and the file's own trailer must agree. For every other file (metadata, chunks in other codecs) the record
keeps the crc32c of the whole file.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np

from distsae.checked_files import open_regular, parse_json, refuse_links, shown
from distsae.errors import CannotContinue, TornData
from distsae.store.buffers import page_aligned
from distsae.store.crc32c import TRAILER, crc32c, trailer_of
from distsae.store.location import Location
from distsae.store.object_path import ObjectPath
from distsae.store.records import FileChecksum

__all__ = [
    "array_has_crc",
    "arrays_with_crc",
    "check_file",
    "ends_with_crc",
    "fill_from",
    "is_metadata",
    "read_chunk_file",
    "read_metadata",
    "read_part",
    "record_files",
    "refuse_links_to",
]


_MOST_METADATA = 16 << 20
"""Largest size of a `zarr.json` in bytes."""

_NO_VECTORS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems answer that cannot read into several areas of memory at once."""

_COPIED_BYTES = 1 << 20


def is_metadata(relative: str) -> bool:
    """Returns whether a file of an attempt is a `zarr.json`, not a chunk."""
    return relative == "zarr.json" or relative.endswith("/zarr.json")


def array_has_crc(metadata: dict[str, Any]) -> bool:
    """Returns whether the chunks of the array with this `zarr.json` end with the crc32c of what comes before it."""
    codecs = metadata.get("codecs")
    last = codecs[-1] if isinstance(codecs, list) and codecs else None
    return isinstance(last, dict) and last.get("name") == "crc32c"


def record_files(folder: Path) -> dict[str, FileChecksum]:
    """Returns size and crc32c of every file of an attempt, in any codecs, keyed by its path inside `folder`.

    Raises:
        TornData: a chunk does not have the crc32c that it ends with.
    """
    names = sorted(os.path.relpath(file, folder) for file in folder.rglob("*") if file.is_file())
    arrays = arrays_with_crc(
        {name: parse_json((folder / name).read_bytes(), folder / name) for name in names if is_metadata(name)}
    )
    return {name: _record(folder / name, ends_with_crc(name, arrays)) for name in names}


def _record(file: Path, trailing: bool | None) -> FileChecksum:
    content = np.frombuffer(file.read_bytes(), np.uint8)
    if not trailing:
        return FileChecksum(len(content), crc32c(content))
    checksum = crc32c(content[:-TRAILER])
    if content[-TRAILER:].tobytes() != trailer_of(checksum):
        raise TornData(f"{file} was just written and reads back differently: the disk or the memory is faulty")
    return FileChecksum(len(content), checksum)


def check_file(file: Location, promised: FileChecksum, trailing: bool | None) -> np.ndarray:
    """Compares a file with its record and returns its bytes.

    Args:
        file: file of an attempt.
        promised: entry of the file in the commit record.
        trailing: whether the file ends with its crc32c; None if that is unknown; then the
            crc32c of the whole file or that of its payload may match.

    Raises:
        TornData: the file is missing or is not what the record promises.
    """
    content = _read_promised(file, promised)
    accepted = [] if trailing else [crc32c(content)]
    if trailing is not False and len(content) >= TRAILER:
        payload = crc32c(content[:-TRAILER])
        accepted += [payload] if content[-TRAILER:].tobytes() == trailer_of(payload) else []
    if promised.crc32c not in accepted:
        raise _damaged(file)
    return content


def read_metadata(folder: Location, relative: str, files: dict[str, FileChecksum]) -> dict[str, Any]:
    """Compares a `zarr.json` with its record and returns its content.

    Raises:
        TornData: the file is missing, damaged, or not in the commit record.
    """
    if relative not in files:
        raise TornData(f"{folder / relative} is not in the commit record of its unit")
    refuse_links_to(folder, relative)
    if files[relative].size > _MOST_METADATA:
        raise TornData(
            f"{folder / relative} has {files[relative].size} bytes in its unit's commit record; metadata are short"
        )
    content = check_file(folder / relative, files[relative], trailing=False).tobytes()
    metadata = parse_json(content, folder / relative)
    if not isinstance(metadata, dict):
        raise TornData(f"{folder / relative} must be a JSON object; got {shown(metadata)}")
    return metadata


def refuse_links_to(folder: Location, relative: str) -> None:
    """Checks that no folder on the way to a file of an attempt is a symbolic link, which may lead out of the store.

    Args:
        folder: folder of the attempt, two levels below the folder of all data.
        relative: path of the file inside the attempt.

    Raises:
        TornData: one is.
    """
    if isinstance(folder, Path):
        refuse_links((folder / relative).parent, folder.parent.parent)


def read_chunk_file(file: Location, promised: FileChecksum, buffer: np.ndarray | None = None) -> np.ndarray:
    """Returns the payload of a chunk that ends with its crc32c, after checking it: uint8, writable.

    Args:
        file: file of the chunk.
        promised: entry of the file in the commit record.
        buffer: memory to read into, of which the result is then a part: uint8, at least `promised.size` long, best
            `page_aligned`. Memory that has been used before is filled several times as fast as fresh memory.

    Raises:
        TornData: the file is missing, or its size or crc32c is not the one that its commit record promises.
    """
    content = page_aligned(promised.size) if buffer is None else buffer[: promised.size]
    beyond = np.empty(1, np.uint8)
    size = _fill(file, promised, [content, beyond], 0)
    if size != promised.size:
        found = "more" if size > promised.size else size
        raise TornData(f"{file} is damaged: {found} bytes where its commit record promises {promised.size}")
    payload = content[:-TRAILER]
    if crc32c(payload) != promised.crc32c or content[-TRAILER:].tobytes() != trailer_of(promised.crc32c):
        raise _damaged(file)
    return payload


def read_part(file: Location, promised: FileChecksum, offset: int, part: np.ndarray) -> None:
    """Fills `part` from byte `offset` of a file that has been checked before; checks nothing but its length.

    Args:
        file: file of the chunk.
        promised: entry of the file in the commit record.
        offset: first byte to read.
        part: memory to fill, uint8.

    Raises:
        TornData: the file is missing or has become too short.
    """
    if _fill(file, promised, [part], offset) != len(part):
        raise TornData(f"{file} is damaged: it has become shorter than its commit record promises")


def _fill(file: Location, promised: FileChecksum, buffers: list[np.ndarray], offset: int) -> int:
    """Fills `buffers`, one after the other, without the GIL and without a further copy; returns the bytes read."""
    if isinstance(file, ObjectPath):
        return _fill_from_object(file, promised, buffers, offset)
    try:
        descriptor = open_regular(file, file.parent)
    except FileNotFoundError:
        raise _missing(file, promised) from None
    try:
        return fill_from(descriptor, [buffer.data for buffer in buffers], offset)
    finally:
        os.close(descriptor)


def fill_from(descriptor: int, parts: list[memoryview], offset: int) -> int:
    """Fills `parts`, one after the other, from byte `offset` of an open file; returns the bytes read.

    Reads without the GIL and without a further copy, in one system call up to 2 GB. The list `parts` is consumed.
    """
    done = 0
    while parts and (read := _read_at(descriptor, parts, offset + done)):
        done += read
        while parts and read >= len(parts[0]):
            read -= len(parts.pop(0))
        if read:
            parts[0] = parts[0][read:]
    return done


def _read_at(descriptor: int, parts: list[memoryview], offset: int) -> int:
    """Reads into several parts with one system call; where there is none, into a part of the first one by a copy."""
    try:
        return os.preadv(descriptor, parts, offset)
    except OSError as error:
        if error.errno not in _NO_VECTORS:
            raise
    content = os.pread(descriptor, min(len(parts[0]), _COPIED_BYTES), offset)
    parts[0][: len(content)] = content
    return len(content)


def _fill_from_object(file: ObjectPath, promised: FileChecksum, buffers: list[np.ndarray], offset: int) -> int:
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


def ends_with_crc(name: str, arrays: dict[str, bool]) -> bool | None:
    """Returns whether a file of an attempt ends with its crc32c; None if it belongs to none of the arrays.

    Args:
        name: path of the file inside the attempt.
        arrays: for each array of the attempt, whether its chunks end with their crc32c.
    """
    if is_metadata(name):
        return False
    owner = max((array for array in arrays if name.startswith(f"{array}/")), key=len, default=None)
    return None if owner is None else arrays[owner]


def arrays_with_crc(metadata: dict[str, dict[str, Any]]) -> dict[str, bool]:
    """Returns for every array of an attempt whether its chunks end with their crc32c.

    Args:
        metadata: contents of the attempt's `zarr.json` files, keyed by their paths inside the attempt.
    """
    return {
        name.removesuffix("/zarr.json"): array_has_crc(values)
        for name, values in metadata.items()
        if values.get("node_type") == "array"
    }


def _read_promised(file: Location, promised: FileChecksum) -> np.ndarray:
    try:
        if isinstance(file, ObjectPath):
            content = np.frombuffer(file.read_bytes(promised.size), np.uint8)
        else:
            with os.fdopen(open_regular(file, file.parent), "rb") as opened:
                if (size := os.fstat(opened.fileno()).st_size) != promised.size:
                    raise _other_size(file, size, promised)
                content = np.frombuffer(opened.read(), np.uint8)
    except FileNotFoundError:
        raise _missing(file, promised) from None
    if len(content) != promised.size:
        raise _other_size(file, len(content), promised)
    return content


def _other_size(file: Location, size: int, promised: FileChecksum) -> TornData:
    return TornData(f"{file} is damaged: {size} bytes where its commit record promises {promised.size}")


def _missing(file: Location, promised: FileChecksum) -> TornData:
    return TornData(f"{file} is missing; its unit's commit record promises {promised.size} bytes")


def _damaged(file: Location) -> TornData:
    return TornData(f"{file} is damaged: its crc32c is not the one in its commit record")
