"""Files that are whole or absent, however the writer dies.

`publish_json` gives a file its name only when its content is on disk, and only if nobody else has given it: of any
number of racing writers exactly one wins (`os.link` fails if the name exists; an object store puts if absent).
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from distsae.durable import beside, replace, sync, write_new
from distsae.errors import TornData
from distsae.store.location import Location, remove_tree
from distsae.store.object_path import ObjectPath

__all__ = ["crc32c", "delivered", "fsync_tree", "publish_json", "read_json", "replace_json"]

_UPLOADS = 8


def publish_json(path: Location, content: dict[str, Any]) -> bool:
    """Writes `content` under a name that nobody has taken; says whether it was us.

    A checksum of the content is added to it, so that a flipped byte is found on reading.
    """
    text = _text(content)
    if isinstance(path, ObjectPath):
        return path.create(text.encode())
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path)
    try:
        write_new(temporary, text.encode())
        os.link(temporary, path)
    except FileExistsError:
        return path.read_bytes() == text.encode()  # ours: a network file system may ask twice for one link
    finally:
        temporary.unlink(missing_ok=True)
        sync(path.parent)
    return True


def replace_json(path: Location, content: dict[str, Any]) -> None:
    """Writes `content` under a name that may be taken; readers see what was there before, or all of it."""
    text = _text(content).encode()
    if isinstance(path, ObjectPath):
        path.write_bytes(text)
        return
    replace(path, text)


def read_json(path: Location) -> dict[str, Any]:
    """Returns what `publish_json` or `replace_json` wrote, without the checksum.

    Raises:
        FileNotFoundError: there is no such file.
        TornData: the file is not, to the byte, what was written; it is named.
    """
    text = path.read_bytes()
    try:
        content = json.loads(text)
        checksum = content.pop("checksum")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TornData(f"{path} is damaged: it is not a record with a checksum ({error})") from None
    if checksum != _checksum(content):
        raise TornData(f"{path} is damaged: its content does not match its checksum")
    if text != _text(content).encode():  # a flipped byte may leave the meaning as it was: 1e9 and 1E9
        raise TornData(f"{path} is damaged: it is not as it was written")
    return dict(content)


@contextmanager
def delivered(folder: Location, root: Location) -> Iterator[Path]:
    """Gives a local folder to write into; when the block ends, what is in it is in `folder` and outlasts a crash.

    A local `folder` is that folder itself, and is forced to the disk. For an object store it is a temporary one, whose
    files are uploaded in the end; so a producer needs room for one unit in the folder for temporary files (`TMPDIR`).

    Args:
        folder: that nobody else writes into.
        root: folder of the store, which `folder` is in.
    """
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield folder
            fsync_tree(folder, root)
        except BaseException:  # a full disk, for example: room is what is wanted then
            remove_tree(folder)
            raise
        return
    with tempfile.TemporaryDirectory(prefix="distsae-") as scratch:
        yield Path(scratch)
        files = [path for path in Path(scratch).rglob("*") if path.is_file()]
        with ThreadPoolExecutor(max_workers=_UPLOADS) as pool:
            list(pool.map(lambda file: (folder / file.relative_to(scratch).as_posix()).upload(file), files))


def crc32c(data: bytes | np.ndarray) -> int:
    """Returns the crc32c of `data`, a bytes object or a contiguous uint8 array."""
    if isinstance(data, np.ndarray):
        data = data.view()
        data.flags.writeable = False  # google_crc32c takes only read-only buffers
    return int(google_crc32c.value(data))


def fsync_tree(folder: Path, root: Location) -> None:
    """Forces every file and folder under `folder` to the disk, and the names that lead to it from `root`."""

    def fail(error: OSError) -> None:
        raise error

    for parent, _, files in os.walk(folder, topdown=False, onerror=fail):
        for name in files:
            sync(Path(parent) / name)
        sync(Path(parent))
    while folder != root:
        folder = folder.parent
        sync(folder)


def _text(content: dict[str, Any]) -> str:
    return json.dumps({**content, "checksum": _checksum(content)}, indent=1)


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
