"""The contexts of a corpus, tokenised once for a store and kept in it.

Every producer needs all contexts, because units are drawn from a permutation of them. The first producer tokenises the
text, keeping pieces of it on the disk as it goes, packs the pieces into contexts, and publishes the result in the
store's `contexts/` folder by renaming a finished folder. The other producers wait for that folder. All of them map it,
so that no process holds the tokenised corpus in memory. The name of the folder is a digest of what it was made from;
for local files, of names, sizes and modification times.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
import uuid
from pathlib import Path

from distsae.errors import WrongInput
from distsae.language_model import ModelFiles
from distsae.producer.config import ProduceConfig
from distsae.producer.full_disk import one_line_if_disk_full
from distsae.producer.packing import HeldoutRule, pack_documents, tokens_wanted
from distsae.producer.packing_in_words import packing_in_words
from distsae.producer.token_pieces import TokenPieces, pieces_folder
from distsae.producer.tokenised_copy import Tokenised, describe, is_published, load, mapped, publish
from distsae.progress import Progress, say
from distsae.store import Claims, StorePaths, contexts_per_unit
from distsae.store.location import Location
from distsae.text import ContextShape, Corpus, corpus_files, open_corpus, tokenised_documents
from distsae.text.local_path import local_path

__all__ = ["heldout_rule", "open_configured_corpus", "tokenised_corpus"]

_CLAIM = "contexts"


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
    while (found := load(folder)) is None:
        if claims.take(_CLAIM):
            try:
                if not is_published(folder):
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


def open_configured_corpus(config: ProduceConfig, first: int = 0) -> Corpus:
    """Finds the corpus that the settings name and returns it unread, from document `first` on.

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
        first=first,
        skip_bad_records=config.skip_bad_records,
    )


def heldout_rule(config: ProduceConfig) -> HeldoutRule:
    """Returns what the settings hold out; it is one unit at most."""
    most = contexts_per_unit(config.unit_rows, config.rows_per_context)
    return HeldoutRule(by=config.heldout_by, share=config.heldout_share, most=most)


def _key(config: ProduceConfig, tokenizer_digest: str) -> str:
    path = local_path(config.corpus, "corpus")
    source: object = config.corpus
    if path is not None:
        stats = [(file.name, file.stat()) for file in corpus_files(path, config.split)]
        source = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    elif config.corpus_revision is not None:
        source = (config.corpus, config.corpus_revision)
    # `streaming` and `skip_bad_records` are left out: neither changes the text of a corpus that is read to its end.
    made_from: tuple[object, ...] = (
        source,
        tokenizer_digest,
        config.context_length,
        config.prepend_bos,
        config.max_contexts,
        config.text_field,
        config.split,
        config.subset,
    )
    if config.heldout_by != "contexts":
        rule = heldout_rule(config)
        made_from = (*made_from, rule.by, rule.share, rule.most)
    if not config.join_documents:
        made_from = (*made_from, "documents apart")
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]


def _pack(folder: Location, config: ProduceConfig, files: ModelFiles, vocabulary: int | None) -> None:
    """Packs the corpus into a temporary folder, and publishes that folder when it is complete."""
    shape = ContextShape.of(files.tokenizer, config.context_length, config.prepend_bos)
    corpus = open_configured_corpus(config)
    pieces = TokenPieces(pieces_folder(folder, corpus.commit))
    _tokenise(pieces, corpus, config, files, vocabulary, shape)
    parent = folder.parent if isinstance(folder, Path) else Path(tempfile.gettempdir())
    temporary = parent / f".{folder.name}.{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        packed = pack_documents(pieces.read, temporary, shape, heldout_rule(config), config.max_contexts)
        if packed.contexts < 2:
            pieces.remove()
            raise WrongInput(
                f"`corpus` (={config.corpus}) must hold text for two contexts of {shape.length} tokens; got "
                f"{packed.contexts}; use more text or a smaller `context_length`"
            )
        for line in packing_in_words(packed, mapped(temporary), config, pieces.skipped):
            say(line)
        describe(temporary, packed, corpus.commit)
        publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    pieces.remove()


def _tokenise(
    pieces: TokenPieces,
    corpus: Corpus,
    config: ProduceConfig,
    files: ModelFiles,
    vocabulary: int | None,
    shape: ContextShape,
) -> None:
    """Adds documents to the pieces until they have the text that is wanted; what is there when it ends is kept."""
    wanted = tokens_wanted(config.max_contexts, heldout_rule(config), shape)
    if pieces.documents:
        say(f"tokenising {config.corpus} from document {pieces.documents:,} on; {pieces.tokens:,} tokens were kept")
        corpus = open_configured_corpus(config, pieces.documents)
    else:
        say(f"tokenising {config.corpus}")
    left = None if wanted is None else wanted - pieces.tokens
    batches = tokenised_documents(
        corpus.documents,
        files.tokenizer,
        vocabulary,
        first=pieces.documents,
        most_tokens=left if config.join_documents else None,
    )
    if not config.join_documents:
        batches = (batch.cut_to(shape.text_tokens) for batch in batches)
    with Progress(wanted, "tokenise", "tokens", done=pieces.tokens) as progress:
        try:
            for batch in batches if left is None or left > 0 else ():
                pieces.append(batch)
                progress.advance(len(batch.token_ids))
                if wanted is not None and pieces.tokens >= wanted:
                    break
        finally:
            pieces.flush()
