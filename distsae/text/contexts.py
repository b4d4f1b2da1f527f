"""Cuts documents into contexts: windows of equal length, each of which the model sees as a whole.

Documents are tokenised in order and each is ended by EOS; the stream of tokens is then cut into equal pieces. With
`prepend_bos` every context starts with BOS, so that the model has its attention sink at the position where it was
trained to have it. Nothing is padded: an incomplete tail is dropped, and every position holds a real token.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from distsae.errors import WrongInput
from distsae.text.encoding import DocumentEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["MAX_DOCUMENTS", "Contexts", "cut_contexts", "pack"]

MAX_DOCUMENTS = 2**31
"""Documents that a corpus may have, because their numbers are kept as int32."""


@dataclass(frozen=True, kw_only=True)
class Contexts:
    """Text packed into `n` contexts of `L` tokens; the number of a context is its row index.

    Args:
        token_ids: int32 `[n, L]`.
        document_id: int32 `[n, L]`, number of the document that each token belongs to. EOS belongs to the document
            that it ends, BOS to the document of the token after it.
    """

    token_ids: Tensor
    document_id: Tensor

    def __len__(self) -> int:
        return int(self.token_ids.shape[0])


def pack(
    documents: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    context_length: int,
    max_contexts: int | None = None,
    prepend_bos: bool = True,
    vocabulary: int | None = None,
) -> Contexts:
    """Packs `documents` into contexts of `context_length` tokens and returns all of them in memory.

    Args:
        documents: texts in order; an empty one takes a document number but gives no token.
        tokenizer: tokenizer of the transformers library, with an EOS token, and with a BOS token if `prepend_bos`.
        context_length: tokens in a context, BOS included.
        max_contexts: number of contexts after which reading stops; None reads all documents.
        prepend_bos: whether each context starts with BOS.
        vocabulary: number of token ids that the model has an embedding for; None leaves ids unchecked.

    Returns:
        At most `max_contexts` contexts; none if the text is shorter than one context.

    Raises:
        WrongInput: the tokenizer lacks a required token or does not know the text, a token has no embedding,
            `context_length` leaves no room for text, or there are more documents than `MAX_DOCUMENTS`.
    """
    pieces = list(cut_contexts(documents, tokenizer, context_length, max_contexts, prepend_bos, vocabulary))
    none = torch.empty((0, context_length), dtype=torch.int32)
    return Contexts(
        token_ids=torch.cat([none, *(piece.token_ids for piece in pieces)]),
        document_id=torch.cat([none, *(piece.document_id for piece in pieces)]),
    )


def cut_contexts(
    documents: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    context_length: int,
    max_contexts: int | None = None,
    prepend_bos: bool = True,
    vocabulary: int | None = None,
    *,
    documents_at_once: int = 512,
    characters_at_once: int = 4_000_000,
    max_documents: int = MAX_DOCUMENTS,
) -> Iterator[Contexts]:
    """Yields the contexts that `pack` returns, in order, in pieces of one or more contexts.

    Arguments and errors are those of `pack`. Memory is bounded, whatever the size of the corpus: it holds one batch of
    documents, their tokens, and an incomplete context. A batch ends after `documents_at_once` documents, which keep the
    tokenizer's threads busy and are few enough to stop soon after `max_contexts`, or after `characters_at_once`
    characters, because a token takes far more memory in the tokenizer than in a context. Only a document longer than
    that needs more memory: it is tokenised as a whole.
    """
    bos, eos = _special_tokens(tokenizer, prepend_bos)
    encoder = DocumentEncoder(tokenizer, vocabulary)
    encoder.check_ids(max(bos, eos))
    if context_length <= int(prepend_bos):
        raise WrongInput(f"`context_length` (={context_length}) must leave room for text after BOS; use 2 or more")
    batches = _batches(documents, documents_at_once, characters_at_once, min(max_documents, MAX_DOCUMENTS))
    stream = _token_stream(batches, encoder, eos)
    return _cut(stream, encoder, context_length, max_contexts, bos if prepend_bos else None)


def _cut(
    stream: Iterator[tuple[np.ndarray, np.ndarray]],
    encoder: DocumentEncoder,
    context_length: int,
    max_contexts: int | None,
    bos: int | None,
) -> Iterator[Contexts]:
    """Yields a piece of contexts whenever the batches of `stream` fill at least one."""
    first = 0 if bos is None else 1  # position of the first token of text
    text_length = context_length - first
    pending: list[tuple[np.ndarray, np.ndarray]] = []  # batches whose tokens are in no context yet
    pending_tokens = 0
    contexts = 0
    while contexts != max_contexts and (batch := next(stream, None)) is not None:
        pending.append(batch)
        pending_tokens += len(batch[0])
        if pending_tokens < text_length:
            continue
        tokens, numbers = (np.concatenate(arrays) for arrays in zip(*pending, strict=True))
        count = pending_tokens // text_length
        if max_contexts is not None:
            count = min(count, max_contexts - contexts)
        used = count * text_length
        token_ids = np.empty((count, context_length), np.int32)
        document_id = np.empty((count, context_length), np.int32)
        token_ids[:, first:] = tokens[:used].reshape(count, text_length)
        document_id[:, first:] = numbers[:used].reshape(count, text_length)
        if bos is not None:
            token_ids[:, 0] = bos
            document_id[:, 0] = document_id[:, 1]
        yield Contexts(token_ids=torch.from_numpy(token_ids), document_id=torch.from_numpy(document_id))
        contexts += count
        pending = [(tokens[used:].copy(), numbers[used:].copy())]  # a view would keep the whole batch in memory
        pending_tokens -= used
    encoder.check()


def _special_tokens(tokenizer: PreTrainedTokenizerBase, prepend_bos: bool) -> tuple[int, int]:
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if eos is None:
        raise WrongInput("the tokenizer must have an EOS token to end documents with; got none; set eos_token")
    if prepend_bos and bos is None:
        raise WrongInput("`prepend_bos` (=true) needs a tokenizer with a BOS token; got none; use --no_prepend_bos")
    return (int(bos) if prepend_bos else -1), int(eos)


def _token_stream(
    batches: Iterable[list[tuple[int, str]]], encoder: DocumentEncoder, eos: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields `(token ids int32 [t], document numbers int32 [t])` for each batch of numbered documents."""
    for batch in batches:
        encoded = encoder.encode([text for _, text in batch])
        lengths = [len(ids) + 1 for ids in encoded]
        ids = np.fromiter(
            itertools.chain.from_iterable(itertools.chain(ids, (eos,)) for ids in encoded), np.int32, count=sum(lengths)
        )
        yield ids, np.repeat(np.asarray([number for number, _ in batch], np.int32), lengths)


def _batches(
    documents: Iterable[str], documents_at_once: int, characters_at_once: int, max_documents: int
) -> Iterator[list[tuple[int, str]]]:
    """Yields the documents that are not empty, with their numbers, in batches that are tokenised together."""
    batch: list[tuple[int, str]] = []
    characters = 0
    for number, text in enumerate(documents):
        if number >= max_documents:
            raise WrongInput(
                f"`corpus` must have at most {max_documents:,} documents, because their numbers are kept in 32 bits; "
                "got more; use a part of the corpus, or join short documents"
            )
        if text:
            batch.append((number, text))
            characters += len(text)
        if len(batch) == documents_at_once or characters >= characters_at_once:
            yield batch
            batch = []
            characters = 0
    if batch:
        yield batch
