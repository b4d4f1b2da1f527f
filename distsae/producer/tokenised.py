"""The corpus as contexts, tokenised once for a store and kept in it.

Every producer needs all contexts, because units are drawn from a permutation of them. The first one packs the text,
writes contexts to disk as they are cut, and publishes the result in the store's `contexts/` folder (by renaming a
finished folder); the others wait for it and map it into memory. So nobody holds the tokenised corpus in memory. A copy
is found again by what it was made from, local files by size and time of change.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from distsae.errors import TornData, WrongInput
from distsae.language_model.loading import ModelFiles
from distsae.producer.config import ProduceConfig
from distsae.producer.full_disk import full_disk_named
from distsae.producer.growing_array import GrowingArray
from distsae.progress import Progress, say
from distsae.store import Claims, StorePaths
from distsae.store.json_files import fsync_tree
from distsae.store.location import Location, local_copy
from distsae.text.contexts import Contexts, cut_contexts
from distsae.text.corpus import Corpus, corpus_files, open_corpus
from distsae.text.local_path import local_path

__all__ = ["Tokenised", "corpus_of", "tokenised_corpus"]

_CLAIM = "contexts"
_FINGERPRINT = "fingerprint"
_HASHED_AT_ONCE = 1 << 26  # bytes


class Tokenised:
    """Contexts and the fingerprint of their content.

    Args:
        contexts: mapped from the store's copy.
        fingerprint: sha256 of token ids and document ids.
        commit: of the Hugging Face data set that they were made from, as far as known.
    """

    def __init__(self, contexts: Contexts, fingerprint: str, commit: str | None = None) -> None:
        self.contexts = contexts
        self.fingerprint = fingerprint
        self.commit = commit

    def verify(self) -> None:
        """Checks that the copy on disk still is what was published, a piece of it at a time.

        Raises:
            TornData: it is not.
        """
        if _fingerprint(self.contexts) != self.fingerprint:
            raise TornData("the store's copy of the tokenised corpus is damaged; remove the folder contexts/ in it")


def tokenised_corpus(config: ProduceConfig, files: ModelFiles, root: Location, claims: Claims) -> Tokenised:
    """Returns the packed corpus, from the store's copy if there is one.

    Memory is bounded by what `cut_contexts` needs, whatever the corpus.

    Raises:
        WrongInput: the corpus is missing, unreadable or too short.
        CannotContinue: the disk is full.
    """
    folder = StorePaths(root).contexts / _key(config, files.tokenizer_digest)
    waiting = False
    while (found := _load(folder)) is None:
        if claims.take(_CLAIM):
            try:
                if not _is_published(folder):
                    with full_disk_named(root):
                        _pack(folder, config, files)
            finally:
                claims.release(_CLAIM)
        else:
            if not waiting:
                say(f"waiting for the process that tokenises {config.corpus}")
                waiting = True
            time.sleep(0.5)
    return found


def corpus_of(config: ProduceConfig) -> Corpus:
    """Opens the corpus that a producer was told of.

    Raises:
        WrongInput: there is none.
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
    # Streaming is not part of it: the text is the same.
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


def _pack(folder: Location, config: ProduceConfig, files: ModelFiles) -> None:
    """Packs the corpus into a folder with a temporary name, and publishes it when it is whole."""
    say(f"tokenising {config.corpus}")
    corpus = corpus_of(config)
    length = config.context_length
    pieces = cut_contexts(corpus.documents, files.tokenizer, length, config.max_contexts, config.prepend_bos)
    above = folder.parent if isinstance(folder, Path) else Path(tempfile.gettempdir())
    temporary = above / f".{folder.name}.{uuid.uuid4().hex}"
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
    """Writes contexts to disk as they come, and returns how many they were."""
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
    """Gives the copy its name: a folder by renaming it, objects by uploading the fingerprint last."""
    if not isinstance(folder, Path):
        for file in sorted(temporary.iterdir(), key=lambda file: file.name == _FINGERPRINT):
            (folder / file.name).upload(file)
        return
    fsync_tree(temporary, folder.parent)
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.exists():  # otherwise somebody else was quicker, with the same content
            raise


def _is_published(folder: Location) -> bool:
    return (folder / _FINGERPRINT).exists()


def _load(folder: Location) -> Tokenised | None:
    if not _is_published(folder):
        return None
    with local_copy(folder) as copy:  # of objects: it has no name any more afterwards, and lives as long as its maps
        commit = copy / "commit"
        return Tokenised(
            _mapped(copy), (copy / _FINGERPRINT).read_text(), commit.read_text() if commit.exists() else None
        )


def _mapped(folder: Path) -> Contexts:
    # Copy-on-write maps: torch wants writable memory, the file stays as it is.
    token_ids, document_id = (
        torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in ("token_ids", "document_id")
    )
    return Contexts(token_ids=token_ids, document_id=document_id)


def _fingerprint(contexts: Contexts) -> str:
    digest = hashlib.sha256()
    for array in (contexts.token_ids, contexts.document_id):
        rows = max(_HASHED_AT_ONCE // (4 * array.shape[1]), 1)
        for start in range(0, len(array), rows):
            digest.update(np.ascontiguousarray(array[start : start + rows].numpy()).data)
    return digest.hexdigest()
