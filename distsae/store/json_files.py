"""JSON records with a checksum inside, so that one changed byte is found on reading.

A record is whole or absent, however its writer dies. `publish_json` writes it only if no other process has: of any
number of racing writers exactly one wins (a hard link fails if the name exists; an object store has put-if-absent).
`replace_json` overwrites what is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

from distsae.checked_files import WrongField, parse_json
from distsae.durable import publish, replace
from distsae.errors import TornData
from distsae.store.location import Location, read_content
from distsae.store.object_path import ObjectPath

__all__ = ["publish_json", "read_json", "read_record", "replace_json"]

T = TypeVar("T")


def publish_json(path: Location, content: dict[str, Any]) -> bool:
    """Writes a record under a name that must be free; returns whether the record now has this content."""
    encoded = _encode(content)
    if isinstance(path, ObjectPath):
        return path.create(encoded)
    path.parent.mkdir(parents=True, exist_ok=True)
    return publish(path, encoded)


def replace_json(path: Location, content: dict[str, Any]) -> None:
    """Writes a record under a name that may be taken; readers see the old record or the new one."""
    encoded = _encode(content)
    if isinstance(path, ObjectPath):
        path.write_bytes(encoded)
    else:
        replace(path, encoded)


def read_json(path: Location) -> dict[str, Any]:
    """Returns the content of a record, without its checksum.

    Raises:
        FileNotFoundError: the file does not exist.
        TornData: the file differs from what was written, by one byte or more; the text names the file.
    """
    encoded = read_content(path)
    content = parse_json(encoded, f"{path} is damaged: it")
    if not isinstance(content, dict) or "checksum" not in content:
        raise TornData(f"{path} is damaged: it is not a record with a checksum")
    checksum = content.pop("checksum")
    if checksum != _checksum(content):
        raise TornData(f"{path} is damaged: its content does not match its checksum")
    if encoded != _encode(
        content
    ):  # a key that is given twice; a flipped byte may leave the meaning as it was: 1e9 and 1E9
        raise TornData(f"{path} is damaged: it is not as it was written")
    return content


def read_record(path: Location, read: Callable[[dict[str, Any]], T]) -> T:
    """Returns what `read` makes of the content of a record.

    Raises:
        FileNotFoundError: the file does not exist.
        TornData: it is damaged, or a field is missing or not what it must be; the text names file and field.
    """
    try:
        return read(read_json(path))
    except WrongField as error:
        raise TornData(f"{path} is not a record that distsae wrote: {error}") from None


def _encode(content: dict[str, Any]) -> bytes:
    return json.dumps({**content, "checksum": _checksum(content)}, indent=1).encode()


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
