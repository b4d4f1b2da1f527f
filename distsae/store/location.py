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

_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):(/.*)$")
_SCHEMES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss")


def location(place: str | Location) -> Location:
    """Returns what the user wrote as a path: a URL (`s3://bucket/folder`) or a folder.

    Raises:
        WrongInput: it is neither.
    """
    if isinstance(place, ObjectPath):
        return place
    text = str(place)
    url = _URL.match(text) if isinstance(place, str) else None
    if url is None:
        try:
            return Path(text).expanduser()
        except RuntimeError as error:
            raise WrongInput(f"`{text}` must be a folder; got {error}; write it out") from None
    scheme, rest = url[1].lower(), url[2]
    if scheme == "file" and (file := re.fullmatch(r"(?://(?:localhost)?)?(/[^/].*)", rest)):
        return Path(file[1])
    if scheme not in _SCHEMES or not re.match(r"//[^/]", rest):
        raise WrongInput(
            f"`{text}` must be a folder or the URL of one in an object store; got neither; write it like "
            f"s3://bucket/folder (or {', '.join(f'{name}://' for name in _SCHEMES[1:])})"
        )
    return ObjectPath(f"{scheme}:{rest}")


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
