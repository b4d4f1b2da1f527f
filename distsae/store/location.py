"""Where a store is: a folder (local or on a network file system), or the URL of one in an object store.

`pathlib.Path` and `ObjectPath` share most methods, so the rest of this package treats both alike. This file holds the
few operations in which they differ.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distsae.checked_files import is_plain, read_regular
from distsae.errors import TornData, WrongInput
from distsae.store.mounted_path import file_of_url, scheme_of
from distsae.store.object_path import ObjectPath

__all__ = [
    "Location",
    "create",
    "entries",
    "files_under",
    "local_copy",
    "location",
    "poll_seconds",
    "read_content",
    "remove_tree",
    "touch",
]

Location = Path | ObjectPath

_POLL_FOLDER = 0.3
_POLL_OBJECTS = 3.0

_SCHEMES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss")


def location(path: str | Location) -> Location:
    """Returns what the user wrote, a folder or a URL (`s3://bucket/folder`), as a path; in a path `~` is expanded.

    Raises:
        WrongInput: the text is neither a folder nor the URL of one in an object store.
    """
    if isinstance(path, ObjectPath):
        return path
    text = str(path)
    scheme = scheme_of(text) if isinstance(path, str) else None
    if scheme is None:
        try:
            return Path(text).expanduser()
        except RuntimeError as error:
            raise WrongInput(f"`{text}` must be a folder; got {error}; write it out") from None
    if (file := file_of_url(text)) is not None:
        return file
    rest = text[len(scheme) + 1 :]
    if scheme not in _SCHEMES or not re.match(r"//[^/]", rest):
        raise WrongInput(
            f"`{text}` must be a folder or the URL of one in an object store; got neither; write it like "
            f"s3://bucket/folder (or {', '.join(f'{name}://' for name in _SCHEMES[1:])})"
        )
    return ObjectPath(f"{scheme}:{rest}")


def poll_seconds(path: Location) -> float:
    """Returns how long to wait between two looks at a store for changes: longer where each look is a request."""
    return _POLL_FOLDER if isinstance(path, Path) else _POLL_OBJECTS


def create(path: Location, content: bytes) -> bool:
    """Creates a file unless it exists, without forcing it to the disk; returns whether this call created it."""
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
    except OSError:  # on a full disk, an empty file must not remain
        path.unlink(missing_ok=True)
        raise
    return True


def touch(path: Location, content: bytes) -> None:
    """Sets the modification time of a file to now.

    Args:
        path: file that this process has created.
        content: content of the file, because an object can only be written again, and so can a file where no time of
            it can be set.
    """
    if isinstance(path, ObjectPath):
        path.write_bytes(content)
        return
    try:
        os.utime(path)
    except FileNotFoundError:
        raise
    except OSError:
        with path.open("r+b") as file:  # which does not create it again
            file.write(content)


def read_content(path: Location, most: int = 128 << 20) -> bytes:
    """Returns the content of a file of a store; one of more than `most` bytes is not read.

    Raises:
        FileNotFoundError: there is no such file.
        TornData: it is larger, or no regular file.
    """
    return path.read_bytes(most) if isinstance(path, ObjectPath) else read_regular(path, most, path.parent)


def entries(folder: Location, prefix: str = "") -> list[Location]:
    """Returns the files and folders directly in `folder` whose names begin with `prefix`, sorted by name.

    The list is empty if the folder does not exist.
    """
    found: list[Location] = list(folder.iterdir()) if folder.is_dir() else []
    return sorted((path for path in found if path.name.startswith(prefix)), key=str)


def files_under(folder: Location) -> list[Location]:
    """Returns all files below a folder, at any depth; none if the folder does not exist."""
    if isinstance(folder, ObjectPath):
        return list(folder.files())
    return [path for path in folder.rglob("*") if path.is_file()]


def remove_tree(folder: Location) -> None:
    """Removes a folder with its content, or a file, as far as possible; it need not exist."""
    if isinstance(folder, ObjectPath):
        for path in (folder, *folder.files()):
            path.unlink(missing_ok=True)
    elif folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
    else:
        folder.unlink(missing_ok=True)


@contextmanager
def local_copy(folder: Location) -> Iterator[Path]:
    """Yields a local folder with the content of `folder`, to read and not to write, until the block ends."""
    if isinstance(folder, Path):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="distsae-") as temporary:
        for path in folder.files():
            name = path.key.removeprefix(folder.key).lstrip("/")
            if not is_plain(name):
                raise TornData(f"{folder} has an object whose name leads out of it: {name!a}")
            target = Path(temporary) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            path.download(target)
        yield Path(temporary)
