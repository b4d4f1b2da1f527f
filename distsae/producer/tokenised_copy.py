"""The finished copy of a tokenised corpus in a store: its contexts, mapped from the disk, and how they are held out."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distsae.checked_files import open_regular, read_regular
from distsae.checked_files.npz import require_npy
from distsae.errors import TornData
from distsae.producer.packing import HeldoutBy, Packed
from distsae.store.delivery import fsync_tree
from distsae.store.location import Location, local_copy
from distsae.text import Contexts

__all__ = ["Tokenised", "describe", "is_published", "load", "mapped", "publish"]

_FINGERPRINT = "fingerprint"
_HELDOUT = "heldout"
_BYTES_AT_ONCE = 1 << 26
_LONGEST_LINE = 4096
_ARRAYS = ("token_ids", "document_id")
_NO_MAPS = (errno.ENODEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What file systems answer that cannot map a file into memory."""


class Tokenised:
    """The contexts of a corpus, with the fingerprint of their content.

    Args:
        contexts: contexts, mapped from the store's copy.
        fingerprint: SHA-256 of token ids and document ids, hexadecimal.
        commit: commit of the Hugging Face data set that the contexts were made from, if it is known.
        heldout: number of contexts, at the end, that are held out; None if the plan of units draws them.
        heldout_by: what was held out.
    """

    def __init__(
        self,
        contexts: Contexts,
        fingerprint: str,
        commit: str | None = None,
        heldout: int | None = None,
        heldout_by: HeldoutBy = "contexts",
    ) -> None:
        self.contexts = contexts
        self.fingerprint = fingerprint
        self.commit = commit
        self.heldout = heldout
        self.heldout_by: HeldoutBy = heldout_by

    def verify(self, bytes_at_once: int = _BYTES_AT_ONCE) -> None:
        """Checks that the copy on disk still has the fingerprint with which it was published.

        Args:
            bytes_at_once: approximate number of bytes that are read into memory at a time.

        Raises:
            TornData: the copy has changed.
        """
        if _fingerprint(self.contexts, bytes_at_once) != self.fingerprint:
            raise TornData("the store's copy of the tokenised corpus is damaged; remove the folder contexts/ in it")


def describe(folder: Path, packed: Packed, commit: str | None) -> None:
    """Writes beside packed contexts what else a copy has.

    Args:
        folder: folder that holds the contexts.
        packed: what packing gave.
        commit: commit of the data set that they were made from, if it is known.
    """
    (folder / _FINGERPRINT).write_text(_fingerprint(mapped(folder)))
    if packed.heldout is not None:
        (folder / _HELDOUT).write_text(f"{packed.heldout_by} {packed.heldout}")
    if commit is not None:
        (folder / "commit").write_text(commit)


def publish(temporary: Path, folder: Location) -> None:
    """Publishes the copy: a folder by renaming it, objects by uploading the fingerprint last."""
    if not isinstance(folder, Path):
        for file in sorted(temporary.iterdir(), key=lambda file: file.name == _FINGERPRINT):
            (folder / file.name).upload(file)
        return
    fsync_tree(temporary, folder.parent)
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.exists():  # else another process has published the same content first
            raise


def is_published(folder: Location) -> bool:
    """Returns whether there is a finished copy."""
    return (folder / _FINGERPRINT).exists()


def load(folder: Location) -> Tokenised | None:
    """Returns a finished copy; None if there is none.

    Raises:
        TornData: it is not what a producer wrote.
    """
    if not is_published(folder):
        return None
    with local_copy(folder) as copy:  # a copy of objects is unlinked after this block, but stays mapped
        commit = copy / "commit"
        heldout_by, heldout = _heldout(copy)
        return Tokenised(
            mapped(copy),
            _line(copy / _FINGERPRINT),
            _line(commit) if commit.exists() else None,
            heldout,
            heldout_by,
        )


def _heldout(folder: Path) -> tuple[HeldoutBy, int | None]:
    """Returns what was held out, and how many contexts."""
    if not (folder / _HELDOUT).exists():
        return "contexts", None
    by, _, number = _line(folder / _HELDOUT).partition(" ")
    if by not in ("documents", "end") or not number.isdecimal():
        raise TornData(f"{folder / _HELDOUT} is not what a producer wrote; remove {folder}")
    return ("documents" if by == "documents" else "end"), int(number)


def _line(file: Path) -> str:
    return read_regular(file, _LONGEST_LINE, file.parent).decode(errors="replace")


def mapped(folder: Path) -> Contexts:
    """Returns the contexts in a folder, mapped into memory.

    Where the file system of the folder has no maps, they are those of copies in a temporary folder.

    Raises:
        TornData: they are not what a producer wrote.
    """
    try:
        return _contexts(folder)
    except OSError as error:
        if error.errno not in _NO_MAPS:
            raise
    with tempfile.TemporaryDirectory(prefix="distsae-") as temporary:  # unlinked after this block, but stays mapped
        for name in _ARRAYS:
            shutil.copyfile(folder / f"{name}.npy", Path(temporary) / f"{name}.npy")
        return _contexts(Path(temporary))


def _contexts(folder: Path) -> Contexts:
    # Copy-on-write maps, because torch requires writable memory; the file does not change.
    token_ids, document_id = (_mapped_array(folder / f"{name}.npy") for name in _ARRAYS)
    if token_ids.shape != document_id.shape:
        raise TornData(f"{folder} must have a document for every token; got {token_ids.shape} and {document_id.shape}")
    return Contexts(token_ids=token_ids, document_id=document_id)


def _mapped_array(file: Path) -> Tensor:
    try:
        with os.fdopen(open_regular(file, file.parent), "rb") as opened:
            require_npy(opened, os.fstat(opened.fileno()).st_size)
        array = np.load(file, mmap_mode="c", allow_pickle=False)
    except (ValueError, FileNotFoundError) as error:
        raise TornData(f"{file} is not what a producer wrote: {error}; remove {file.parent}") from None
    if array.dtype != np.int32 or array.ndim != 2 or not array.shape[1]:
        raise TornData(f"{file} must have int32 numbers, [contexts, length]; got {array.dtype} of {array.shape}")
    return torch.from_numpy(array)


def _fingerprint(contexts: Contexts, bytes_at_once: int = _BYTES_AT_ONCE) -> str:
    digest = hashlib.sha256()
    for array in (contexts.token_ids, contexts.document_id):
        rows = max(bytes_at_once // (4 * array.shape[1]), 1)
        for start in range(0, len(array), rows):
            digest.update(np.ascontiguousarray(array[start : start + rows].numpy()).data)
    return digest.hexdigest()
