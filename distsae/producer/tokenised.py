"""The corpus as contexts, tokenised once for a store and kept in it.

Every producer needs all contexts, because units are drawn from a permutation of them. The first one packs the text and
publishes the result in the store's `contexts/` folder (by renaming a finished folder); the others wait for it and map
it into memory. A copy is found again by what it was made from, local files by size and time of change.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import uuid
from pathlib import Path

import numpy as np
import torch

from distsae.errors import TornData, WrongInput
from distsae.producer.config import ProduceConfig
from distsae.producer.contexts import Contexts, pack
from distsae.producer.corpus import corpus_files, documents
from distsae.producer.language_model import ModelFiles
from distsae.producer.places import local_path
from distsae.progress import say
from distsae.store import Claims, StorePaths

__all__ = ["Tokenised", "tokenised_corpus"]

_CLAIM = "contexts"


class Tokenised:
    """Contexts and the fingerprint of their content.

    Args:
        contexts: mapped from the store's copy.
        fingerprint: sha256 of token ids and document ids.
    """

    def __init__(self, contexts: Contexts, fingerprint: str) -> None:
        self.contexts, self.fingerprint = contexts, fingerprint

    def verify(self) -> None:
        """Checks that the copy on disk still is what was published.

        Raises:
            TornData: it is not.
        """
        if _fingerprint(self.contexts) != self.fingerprint:
            raise TornData("the store's copy of the tokenised corpus is damaged; remove the folder contexts/ in it")


def tokenised_corpus(config: ProduceConfig, files: ModelFiles, root: Path, claims: Claims) -> Tokenised:
    """Returns the packed corpus, from the store's copy if there is one.

    Raises:
        WrongInput: the corpus is missing, unreadable or too short.
    """
    folder = StorePaths(root).contexts / _key(config, files.tokenizer_digest)
    while (found := _load(folder)) is None:
        if claims.take(_CLAIM):
            try:
                if not folder.exists():
                    _publish(folder, _pack(config, files))
            finally:
                claims.release(_CLAIM)
        else:
            time.sleep(0.5)
    return found


def _key(config: ProduceConfig, tokenizer_digest: str) -> str:
    path = local_path(config.corpus, "corpus")
    source: object = config.corpus
    if path is not None:
        stats = [(file.name, file.stat()) for file in corpus_files(path)]
        source = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
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


def _pack(config: ProduceConfig, files: ModelFiles) -> Contexts:
    say(f"tokenising {config.corpus}")
    texts = documents(config.corpus, text_field=config.text_field, split=config.split, subset=config.subset)
    contexts = pack(texts, files.tokenizer, config.context_length, config.max_contexts, config.prepend_bos)
    if len(contexts) < 2:
        raise WrongInput(
            f"`corpus` (={config.corpus}) must hold text for two contexts of {config.context_length} tokens; got "
            f"{len(contexts)}; do use more text or a smaller `context_length`"
        )
    return contexts


def _publish(folder: Path, contexts: Contexts) -> None:
    temporary = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
    temporary.mkdir(parents=True)
    np.save(temporary / "token_ids.npy", contexts.token_ids.numpy())
    np.save(temporary / "document_id.npy", contexts.document_id.numpy())
    (temporary / "fingerprint").write_text(_fingerprint(contexts))
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        shutil.rmtree(temporary)  # somebody else was quicker, with the same content


def _load(folder: Path) -> Tokenised | None:
    if not folder.exists():
        return None
    # Copy-on-write maps: torch wants writable memory, the file stays as it is.
    token_ids, document_id = (
        torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in ("token_ids", "document_id")
    )
    return Tokenised(Contexts(token_ids=token_ids, document_id=document_id), (folder / "fingerprint").read_text())


def _fingerprint(contexts: Contexts) -> str:
    digest = hashlib.sha256()
    for array in (contexts.token_ids, contexts.document_id):
        digest.update(np.ascontiguousarray(array.numpy()).data)
    return digest.hexdigest()
