"""Where a store is: a folder of this machine (or of a network file system), or a URL of an object store.

Everything else in this package treats both alike, through the manners that `pathlib.Path` and `ObjectPath` share. Here
are the few acts in which they differ.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distsae.errors import WrongInput
from distsae.store.object_path import ObjectPath

__all__ = ["Location", "create", "entries", "files_under", "local_copy", "location", "remove_tree", "touch"]

Location = Path | ObjectPath

_URL = re.compile(r"^([a-z][a-z0-9+.-]*)://")


def location(place: str | Location) -> Location:
    """Returns what the user wrote as a path: a URL (`s3://bucket/folder`) or a folder.

    Raises:
        WrongInput: a URL of a kind that several processes cannot share.
    """
    if isinstance(place, ObjectPath):
        return place
    text = str(place)
    scheme = _URL.match(text)
    if scheme is None:
        return Path(place).expanduser()
    if scheme[1] == "file":
        return Path(text.removeprefix("file://"))
    if scheme[1] == "memory":
        raise WrongInput(f"`{text}` must be a place that other processes see too; got memory; do use a folder or a URL")
    return ObjectPath(text)


def create(path: Location, content: bytes) -> bool:
    """Makes a file that nobody has made, without forcing it to the disk; says whether it was us."""
    if isinstance(path, ObjectPath):
        return path.create(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = path.open("xb")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(content)
    except OSError:  # a full disk must not leave an empty file that says nothing
        path.unlink(missing_ok=True)
        raise
    return True


def touch(path: Location, content: bytes) -> None:
    """Makes the time of change of a file that we have made with `content` the present one."""
    if isinstance(path, ObjectPath):
        path.write_bytes(content)
    else:
        os.utime(path)


def entries(folder: Location, prefix: str = "") -> list[Location]:
    """Returns what is in a folder and begins with `prefix`, by name; nothing if there is no such folder."""
    found: list[Location] = list(folder.iterdir()) if folder.is_dir() else []
    return sorted((path for path in found if path.name.startswith(prefix)), key=str)


def files_under(folder: Location) -> list[Location]:
    """Returns all files below a folder; none if there is no such folder."""
    if isinstance(folder, ObjectPath):
        return list(folder.files())
    return [path for path in folder.rglob("*") if path.is_file()]


def remove_tree(folder: Location) -> None:
    """Removes a folder with all that is in it, or a file, as far as that is possible."""
    if isinstance(folder, ObjectPath):
        for path in (folder, *folder.files()):
            path.unlink(missing_ok=True)
    elif folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
    else:
        folder.unlink(missing_ok=True)


@contextmanager
def local_copy(folder: Location) -> Iterator[Path]:
    """Gives a local folder with the content of `folder`, to be read only, for as long as the block lasts."""
    if isinstance(folder, Path):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="distsae-") as scratch:
        for path in folder.files():
            target = Path(scratch) / path.key.removeprefix(folder.key).lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            path.download(target)
        yield Path(scratch)
