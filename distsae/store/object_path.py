"""Paths in an object store (S3, Google Cloud Storage, Azure), with the methods of `pathlib.Path` that a store needs.

An object appears whole or not at all, and cannot be linked or renamed. There are no folders: a folder is the common
start of some names. Races are decided by the server alone, with put-if-absent: `create`.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from distsae.errors import CannotContinue, TornData, WrongInput

__all__ = ["ObjectPath", "ObjectStat"]

_RETRIES = 1000  # more than fit into the time below, so that the time is the limit
_RETRY_SECONDS = 60

_NO_CREDENTIALS = re.compile(r"169\.254\.169\.254|metadata\.google|/latest/api/token")


class ObjectStat(NamedTuple):
    """Size in bytes, and time of the last change by the server's clock; named as in `os.stat_result`."""

    st_size: int
    st_mtime: float


class ObjectPath:
    """The path of an object, or of a folder of objects.

    Args:
        root: URL of a bucket, or of a folder in one: `s3://bucket/folder`, `gs://...`, `az://...`. Credentials and
            endpoint come from the environment, in the variables that the vendor's own tools read
            (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `AWS_REGION`, ...).
        key: path below `root`, with parts separated by `/`; empty for the root itself.
    """

    def __init__(self, root: str, key: str = "") -> None:
        self.root, self.key = root.rstrip("/"), key.strip("/")

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key else self.root

    def __repr__(self) -> str:
        return f"ObjectPath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(self.root, f"{self.key}/{name}")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return str(self).rsplit("/", 1)[1]

    @property
    def stem(self) -> str:
        """The last part of the path without its suffix."""
        return self.name.rsplit(".", 1)[0]

    @property
    def parent(self) -> ObjectPath:
        """The folder that contains this path, which must not be the root."""
        assert self.key, self
        return ObjectPath(self.root, self.key.rpartition("/")[0])

    def resolve(self) -> ObjectPath:
        """Returns this path itself, since an object store has no links."""
        return self

    def exists(self) -> bool:
        """Returns whether there is an object with this name, or a folder with objects in it."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Returns whether there is an object with this name."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Returns whether there is an object in this folder."""
        return next(self.files(), None) is not None

    def stat(self) -> ObjectStat:
        """Returns size and modification time of the object.

        Raises:
            FileNotFoundError: there is no such object.
        """
        if not self.key:
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self))
        with self._reached("read"):
            found = _library().head(self._store(), self.key)
        return ObjectStat(found["size"], found["last_modified"].timestamp())

    def read_bytes(self, most: int | None = None) -> bytes:
        """Returns the content of the object.

        Args:
            most: largest size in bytes; a larger object is not read. None for no limit.

        Raises:
            FileNotFoundError: there is no such object.
            TornData: it is larger than `most`.
        """
        with self._reached("read"):
            found = self._found(most)
            return bytes(found.bytes())

    def read_range(self, start: int, length: int) -> memoryview:
        """Returns bytes `[start, start + length)` of the object, fewer where it ends.

        Raises:
            FileNotFoundError: there is no such object.
        """
        if not length:
            return memoryview(b"")
        with self._reached("read"):
            return memoryview(_library().get_range(self._store(), self.key, start=start, length=length))

    def write_bytes(self, content: bytes | memoryview) -> None:
        """Creates or replaces the object."""
        with self._reached("written"):
            _library().put(self._store(), self.key, content)

    def upload(self, file: Path) -> None:
        """Creates or replaces the object with the content of a file, which is streamed."""
        with self._reached("written"):
            _library().put(self._store(), self.key, file)

    def download(self, file: Path, most: int | None = None) -> None:
        """Streams the content of the object into a file.

        Args:
            file: file to create, or to replace.
            most: largest size in bytes; a larger object is not read. None for no limit.

        Raises:
            FileNotFoundError: there is no such object.
            TornData: it is larger than `most`.
        """
        with self._reached("read"):
            found = self._found(most)
            with file.open("wb") as opened:
                for piece in found.stream():
                    opened.write(piece)

    def create(self, content: bytes) -> bool:
        """Creates the object unless it exists; returns whether this call created it.

        An answer of the server may be lost, and the repeated request then finds the object that it has created itself.
        So an object that is found counts as created by this call if it has the same content, which must therefore be
        one that no other process writes.
        """
        with self._reached("written"):
            try:
                _library().put(self._store(), self.key, content, mode="create")
            except _library().exceptions.AlreadyExistsError:
                try:
                    return self.read_bytes() == content
                except FileNotFoundError:  # another process has removed it just now, so it was not this call's
                    return False
        return True

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the object; if it does not exist, that is an error unless `missing_ok`."""
        if not missing_ok and not self.is_file():
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self))
        with self._reached("removed"), contextlib.suppress(FileNotFoundError):
            _library().delete(self._store(), self.key)

    def iterdir(self) -> Iterator[ObjectPath]:
        """Yields the objects and folders directly in this folder."""
        with self._reached("listed"):
            found = _library().list_with_delimiter(self._store(), self.key or None)
        for name in (*found["common_prefixes"], *(entry["path"] for entry in found["objects"])):
            yield ObjectPath(self.root, name)

    def files(self) -> Iterator[ObjectPath]:
        """Yields all objects below this folder, at any depth."""
        with self._reached("listed"):
            for page in _library().list(self._store(), prefix=self.key or None):
                for entry in page:
                    yield ObjectPath(self.root, entry["path"])

    def zarr_store(self) -> Any:  # noqa: ANN401  (zarr is untyped here)
        """Returns this folder as a read-only store of zarr-python."""
        from zarr.storage import ObjectStore

        return ObjectStore(_opened(str(self)), read_only=True)

    def _found(self, most: int | None) -> Any:  # noqa: ANN401  (the answer of obstore, of which nothing is read yet)
        found = _library().get(self._store(), self.key)
        if most is not None and found.meta["size"] > most:
            raise TornData(
                f"{self} must have at most {most:,} bytes to be what its name says; got {found.meta['size']:,}"
            )
        return found

    def _store(self) -> Any:  # noqa: ANN401  (one of obstore's store classes)
        return _opened(self.root)

    @contextlib.contextmanager
    def _reached(self, done: str) -> Iterator[None]:
        """Turns the library's many errors into one line that names the object.

        Args:
            done: what the block tried to do, as in "could not be read".
        """
        library = _library()
        try:
            yield
        except FileNotFoundError as error:
            if _is_bucket_missing(error):
                raise self._bucket_missing() from None
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self)) from None
        except (library.exceptions.BaseError, PermissionError) as error:
            if _is_bucket_missing(error):
                raise self._bucket_missing() from None
            reason = str(error).strip().splitlines()[0]
            advice = "check credentials, endpoint and network"
            if _NO_CREDENTIALS.search(reason):  # it asked the cloud's metadata server, since the environment had none
                advice = "set credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what your vendor calls them)"
            raise CannotContinue(f"{self} could not be {done}: {reason[:300]}; {advice}") from error

    def _bucket_missing(self) -> WrongInput:
        return WrongInput(f"`{self.root}` must be in a bucket that exists; got none of that name; create it")


def _is_bucket_missing(error: Exception) -> bool:
    """Returns whether the server (S3, Google or Azure) reports that a bucket, not an object, is missing."""
    return any(f"<Code>{code}</Code>" in str(error) for code in ("NoSuchBucket", "ContainerNotFound"))


def _library() -> Any:  # noqa: ANN401  (a module; it is imported only if a store is at a URL)
    import obstore

    return obstore


@functools.cache
def _opened(root: str) -> Any:  # noqa: ANN401
    """Opens a URL, once in a process; an endpoint that the user has set may be plain http."""
    library = _library()
    options: dict[str, Any] = {}
    if os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", "")).startswith("http://"):
        options["client_options"] = {"allow_http": True}
    retry = {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)}
    try:
        return library.store.from_url(root, retry_config=retry, **options)
    except (library.exceptions.BaseError, ValueError) as error:
        raise WrongInput(
            f"`{root}` must be a folder or the URL of one in an object store (s3://, gs://, az://); got "
            f"{str(error).strip().splitlines()[0]}; check it"
        ) from None
