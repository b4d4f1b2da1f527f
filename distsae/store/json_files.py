"""JSON records with a checksum inside, so that one changed byte is found on reading.

A record is whole or absent, however its writer dies. `publish_json` writes it only if no other process has: of any
number of racing writers exactly one wins (a hard link fails if the name exists; an object store has put-if-absent).
`replace_json` overwrites what is there.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from distsae.durable import publish, replace
from distsae.errors import TornData
from distsae.store.location import Location
from distsae.store.object_path import ObjectPath

__all__ = ["publish_json", "read_json", "replace_json"]


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
    encoded = path.read_bytes()
    try:
        content = json.loads(encoded)
        checksum = content.pop("checksum")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TornData(f"{path} is damaged: it is not a record with a checksum ({error})") from None
    if checksum != _checksum(content):
        raise TornData(f"{path} is damaged: its content does not match its checksum")
    if encoded != _encode(content):  # a flipped byte may leave the meaning as it was: 1e9 and 1E9
        raise TornData(f"{path} is damaged: it is not as it was written")
    return dict(content)


def _encode(content: dict[str, Any]) -> bytes:
    return json.dumps({**content, "checksum": _checksum(content)}, indent=1).encode()


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
