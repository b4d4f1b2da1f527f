"""A name in an object store (S3, Google Cloud Storage, Azure), with the part of pathlib's manners that a store needs.

Objects appear whole or not at all, cannot be linked or renamed, and have no folders: a folder is what names have in
common. `create` is the one act that settles races: put-if-absent, which the server decides.
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

from distsae.errors import CannotContinue, WrongInput

__all__ = ["ObjectPath", "ObjectStat"]

_RETRIES, _RETRY_SECONDS = 1000, 60  # the seconds decide

_NO_KEY = re.compile(r"169\.254\.169\.254|metadata\.google|/latest/api/token")


class ObjectStat(NamedTuple):
    """Size in bytes and time of the last change by the server's clock, named as in `os.stat_result`."""

    st_size: int
    st_mtime: float


class ObjectPath:
    """The object (or the folder) `key` under the URL `root`.

    Args:
        root: `s3://bucket/folder`, `gs://...`, `az://...`; credentials and endpoint come from the environment, as the
            vendor's own tools read them (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `AWS_REGION`, ...).
        key: parts separated by `/`; empty for the root itself.
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
        """The last part."""
        return str(self).rsplit("/", 1)[1]

    @property
    def stem(self) -> str:
        """The last part without what follows its last dot."""
        return self.name.rsplit(".", 1)[0]

    @property
    def parent(self) -> ObjectPath:
        """The folder that this is in; must not be the root."""
        assert self.key, self
        return ObjectPath(self.root, self.key.rpartition("/")[0])

    def resolve(self) -> ObjectPath:
        """Returns itself: there are no links."""
        return self

    def exists(self) -> bool:
        """Says whether there is such an object, or a folder with objects in it."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Says whether there is such an object."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Says whether there is an object in this folder."""
        return next(self.files(), None) is not None

    def stat(self) -> ObjectStat:
        """Returns size and time of change.

        Raises:
            FileNotFoundError: there is no such object.
        """
        if not self.key:
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self))
        with self._reached("read"):
            found = _library().head(self._store(), self.key)
        return ObjectStat(found["size"], found["last_modified"].timestamp())

    def read_bytes(self) -> bytes:
        """Returns the content.

        Raises:
            FileNotFoundError: there is no such object.
        """
        with self._reached("read"):
            return bytes(_library().get(self._store(), self.key).bytes())

    def read_range(self, start: int, length: int) -> memoryview:
        """Returns bytes `[start, start + length)`, fewer where the object ends.

        Raises:
            FileNotFoundError: there is no such object.
        """
        if not length:
            return memoryview(b"")
        with self._reached("read"):
            return memoryview(_library().get_range(self._store(), self.key, start=start, length=length))

    def write_bytes(self, content: bytes | memoryview) -> None:
        """Makes or replaces the object."""
        with self._reached("written"):
            _library().put(self._store(), self.key, content)

    def upload(self, file: Path) -> None:
        """Makes or replaces the object with the content of a file, a piece at a time."""
        with self._reached("written"):
            _library().put(self._store(), self.key, file)

    def download(self, file: Path) -> None:
        """Writes the content to a file, a piece at a time.

        Raises:
            FileNotFoundError: there is no such object.
        """
        with self._reached("read"), file.open("wb") as opened:
            for piece in _library().get(self._store(), self.key).stream():
                opened.write(piece)

    def create(self, content: bytes) -> bool:
        """Makes the object unless there is one; says whether it was us.

        An answer may be lost on its way, and what is then tried again finds our own object: so who finds an object
        compares its content, which must therefore be nobody else's.
        """
        with self._reached("written"):
            try:
                _library().put(self._store(), self.key, content, mode="create")
            except _library().exceptions.AlreadyExistsError:
                try:
                    return self.read_bytes() == content
                except FileNotFoundError:  # removed just now; it was not ours
                    return False
        return True

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the object."""
        if not missing_ok and not self.is_file():
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self))
        with self._reached("removed"), contextlib.suppress(FileNotFoundError):
            _library().delete(self._store(), self.key)

    def iterdir(self) -> Iterator[ObjectPath]:
        """Yields the objects and folders of this folder."""
        with self._reached("listed"):
            found = _library().list_with_delimiter(self._store(), self.key or None)
        for name in (*found["common_prefixes"], *(entry["path"] for entry in found["objects"])):
            yield ObjectPath(self.root, name)

    def files(self) -> Iterator[ObjectPath]:
        """Yields all objects of this folder and those below it."""
        with self._reached("listed"):
            for page in _library().list(self._store(), prefix=self.key or None):
                for entry in page:
                    yield ObjectPath(self.root, entry["path"])

    def zarr_store(self) -> Any:  # noqa: ANN401  (zarr is untyped here)
        """Returns this folder as zarr-python sees it, read-only."""
        from zarr.storage import ObjectStore

        return ObjectStore(_opened(str(self)), read_only=True)

    def _store(self) -> Any:  # noqa: ANN401  (one of obstore's store classes)
        return _opened(self.root)

    @contextlib.contextmanager
    def _reached(self, done: str) -> Iterator[None]:
        """Turns the library's many errors into one line that names the object."""
        library = _library()
        try:
            yield
        except FileNotFoundError as error:
            if _is_bucket_missing(error):
                raise self._no_bucket() from None
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self)) from None
        except (library.exceptions.BaseError, PermissionError) as error:
            if _is_bucket_missing(error):
                raise self._no_bucket() from None
            reason = str(error).strip().splitlines()[0]
            advice = "check credentials, endpoint and network"
            if _NO_KEY.search(reason):  # without keys the library asks the machine of a cloud for some
                advice = "set credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what your vendor calls them)"
            raise CannotContinue(f"{self} could not be {done}: {reason[:300]}; {advice}") from error

    def _no_bucket(self) -> WrongInput:
        return WrongInput(f"`{self.root}` must be in a bucket that exists; got none of that name; create it")


def _is_bucket_missing(error: Exception) -> bool:
    """Says whether a server's answer tells of a bucket, not of an object, in the words of S3, Google or Azure."""
    return any(f"<Code>{code}</Code>" in str(error) for code in ("NoSuchBucket", "ContainerNotFound"))


def _library() -> Any:  # noqa: ANN401  (a module; it is imported only where a store is at a URL)
    import obstore

    return obstore


@functools.cache
def _opened(root: str) -> Any:  # noqa: ANN401
    """Opens a URL once a process; a plain-http endpoint of one's own needs no further permission."""
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
