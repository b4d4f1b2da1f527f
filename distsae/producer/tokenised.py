"""The contexts of a corpus, tokenised once for a store and kept in it.

Every producer needs all contexts, because units are drawn from a permutation of them. The first producer packs the
text, writes contexts to disk as they are cut, and publishes the result in the store's `contexts/` folder by renaming a
finished folder. The other producers wait for that folder. All of them map it, so that no process holds the tokenised
corpus in memory. The name of the folder is a digest of what it was made from; for local files, of names, sizes and
modification times.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distsae.checked_files import open_regular, read_regular
from distsae.checked_files.npz import require_npy
from distsae.errors import TornData, WrongInput
from distsae.language_model import ModelFiles
from distsae.producer.config import ProduceConfig
from distsae.producer.full_disk import one_line_if_disk_full
from distsae.producer.growing_array import GrowingArray
from distsae.progress import Progress, say
from distsae.store import Claims, StorePaths
from distsae.store.delivery import fsync_tree
from distsae.store.location import Location, local_copy
from distsae.text import Contexts, Corpus, corpus_files, cut_contexts, open_corpus
from distsae.text.local_path import local_path

__all__ = ["Tokenised", "open_configured_corpus", "tokenised_corpus"]

_CLAIM = "contexts"
_FINGERPRINT = "fingerprint"
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
    """

    def __init__(self, contexts: Contexts, fingerprint: str, commit: str | None = None) -> None:
        self.contexts = contexts
        self.fingerprint = fingerprint
        self.commit = commit

    def verify(self, bytes_at_once: int = _BYTES_AT_ONCE) -> None:
        """Checks that the copy on disk still has the fingerprint with which it was published.

        Args:
            bytes_at_once: approximate number of bytes that are read into memory at a time.

        Raises:
            TornData: the copy has changed.
        """
        if _fingerprint(self.contexts, bytes_at_once) != self.fingerprint:
            raise TornData("the store's copy of the tokenised corpus is damaged; remove the folder contexts/ in it")


def tokenised_corpus(
    config: ProduceConfig, files: ModelFiles, root: Location, claims: Claims, vocabulary: int | None = None
) -> Tokenised:
    """Returns the packed corpus from the store's copy, after making the copy if there is none.

    It needs as much memory as `cut_contexts`, whatever the size of the corpus.

    Args:
        config: settings of the producer.
        files: files of the model, for its tokenizer.
        root: the store.
        claims: claims of this process.
        vocabulary: number of token ids that the model has an embedding for; None leaves ids unchecked.

    Raises:
        WrongInput: the corpus is missing, unreadable or too short, or the tokenizer is not the model's own.
        CannotContinue: the disk is full.
    """
    folder = StorePaths(root).contexts / _key(config, files.tokenizer_digest)
    waiting = False
    while (found := _load(folder)) is None:
        if claims.take(_CLAIM):
            try:
                if not _is_published(folder):
                    with one_line_if_disk_full(root):
                        _pack(folder, config, files, vocabulary)
            finally:
                claims.release(_CLAIM)
        else:
            if not waiting:
                say(f"waiting for the process that tokenises {config.corpus}")
                waiting = True
            time.sleep(0.5)
    return found


def open_configured_corpus(config: ProduceConfig) -> Corpus:
    """Finds the corpus that the settings name and returns it unread.

    Raises:
        WrongInput: there is no such corpus.
    """
    return open_corpus(
        config.corpus,
        text_field=config.text_field,
        split=config.split,
        subset=config.subset,
        revision=config.corpus_revision,
        streaming=config.streaming,
    )


def _key(config: ProduceConfig, tokenizer_digest: str) -> str:
    path = local_path(config.corpus, "corpus")
    source: object = config.corpus
    if path is not None:
        stats = [(file.name, file.stat()) for file in corpus_files(path, config.split)]
        source = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    elif config.corpus_revision is not None:
        source = (config.corpus, config.corpus_revision)
    # `streaming` is left out, because it does not change the text.
    made_from = (
        source,
        tokenizer_digest,
        config.context_length,
        config.prepend_bos,
        config.max_contexts,
        config.text_field,
        config.split,
        config.subset,
    )
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]


def _pack(folder: Location, config: ProduceConfig, files: ModelFiles, vocabulary: int | None) -> None:
    """Packs the corpus into a temporary folder, and publishes that folder when it is complete."""
    say(f"tokenising {config.corpus}")
    corpus = open_configured_corpus(config)
    length = config.context_length
    pieces = cut_contexts(
        corpus.documents, files.tokenizer, length, config.max_contexts, config.prepend_bos, vocabulary
    )
    parent = folder.parent if isinstance(folder, Path) else Path(tempfile.gettempdir())
    temporary = parent / f".{folder.name}.{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        count = _write(temporary, pieces, length, config.max_contexts)
        if count < 2:
            raise WrongInput(
                f"`corpus` (={config.corpus}) must hold text for two contexts of {length} tokens; got {count}; use "
                "more text or a smaller `context_length`"
            )
        (temporary / _FINGERPRINT).write_text(_fingerprint(_mapped(temporary)))
        if corpus.commit is not None:
            (temporary / "commit").write_text(corpus.commit)
        _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(folder: Path, pieces: Iterator[Contexts], length: int, expected: int | None) -> int:
    """Writes contexts to disk piece by piece, and returns their number."""
    with (
        GrowingArray(folder / "token_ids.npy", length) as token_ids,
        GrowingArray(folder / "document_id.npy", length) as document_id,
        Progress(None if expected is None else expected * length, "tokenise", "tokens") as progress,
    ):
        for piece in pieces:
            token_ids.append(piece.token_ids.numpy())
            document_id.append(piece.document_id.numpy())
            progress.advance(len(piece) * length)
    return token_ids.rows


def _publish(temporary: Path, folder: Location) -> None:
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


def _is_published(folder: Location) -> bool:
    return (folder / _FINGERPRINT).exists()


def _load(folder: Location) -> Tokenised | None:
    if not _is_published(folder):
        return None
    with local_copy(folder) as copy:  # a copy of objects is unlinked after this block, but stays mapped
        commit = copy / "commit"
        return Tokenised(_mapped(copy), _line(copy / _FINGERPRINT), _line(commit) if commit.exists() else None)


def _line(file: Path) -> str:
    return read_regular(file, _LONGEST_LINE, file.parent).decode(errors="replace")


def _mapped(folder: Path) -> Contexts:
    """Maps the two arrays in a folder; where its file system has no maps, copies of them in a temporary folder."""
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
