"""Documents to contexts: fixed-length windows of tokens, the atoms that the model sees.

Documents are tokenised in order, each is ended by EOS, and the stream of tokens is cut into equal pieces; with
`prepend_bos` every context starts with BOS, so that the model always has its attention sink where it was trained
to have it. Nothing is padded: an incomplete tail is dropped, and every position is a real token.
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

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Contexts", "cut_contexts", "pack"]

_DOCUMENTS_AT_ONCE = 512  # enough for the tokenizer's threads, little enough to stop soon after `max_contexts`
_CHARACTERS_AT_ONCE = 4_000_000  # a token takes far more memory in the tokenizer than in a context
_MOST_DOCUMENTS = 2**31  # numbers are int32


@dataclass(frozen=True, kw_only=True)
class Contexts:
    """Packed text; a context's number is its row here.

    Args:
        token_ids: int32 `[n, L]`.
        document_id: int32 `[n, L]`, the number of the document that each token belongs to. EOS belongs to the
            document that it ends, BOS to the document of the token after it.
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
) -> Contexts:
    """Packs `documents` into contexts of `context_length` tokens, all of them in memory.

    Args:
        documents: texts, in order; empty ones are counted but give no token.
        tokenizer: of the transformers library, with an EOS token, and a BOS token if `prepend_bos`.
        context_length: tokens in a context, BOS included.
        max_contexts: stop reading after so many contexts.
        prepend_bos: whether each context starts with BOS.

    Returns:
        At most `max_contexts` contexts; none when the text is shorter than one.

    Raises:
        WrongInput: the tokenizer lacks a token that is needed, `context_length` leaves no room for text, or there are
            more documents than have a number.
    """
    pieces = list(cut_contexts(documents, tokenizer, context_length, max_contexts, prepend_bos))
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
) -> Iterator[Contexts]:
    """Yields what `pack` returns, a piece at a time, in order; takes its arguments and raises its errors.

    Memory is bounded, whatever the corpus: one batch of at most 512 documents and about 4 million characters, its
    tokens, and less than a context that waits for more. Only a document longer than that needs more, as it is
    tokenised in one piece. No piece is empty.
    """
    bos, eos = _special_tokens(tokenizer, prepend_bos)
    if context_length <= int(prepend_bos):
        raise WrongInput(f"`context_length` (={context_length}) must leave room for text after BOS; use 2 or more")
    return _cut(_token_stream(documents, tokenizer, eos), context_length, max_contexts, bos if prepend_bos else None)


def _cut(
    stream: Iterator[tuple[np.ndarray, np.ndarray]], context_length: int, max_contexts: int | None, bos: int | None
) -> Iterator[Contexts]:
    first = 0 if bos is None else 1  # position of the first token of text
    body = context_length - first
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    length = cut = 0
    while cut != max_contexts and (arrived := next(stream, None)) is not None:
        waiting.append(arrived)
        length += len(arrived[0])
        if length < body:
            continue
        tokens, owners = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
        whole = length // body if max_contexts is None else min(length // body, max_contexts - cut)
        used = whole * body
        token_ids, document_id = (np.empty((whole, context_length), np.int32) for _ in range(2))
        token_ids[:, first:] = tokens[:used].reshape(whole, body)
        document_id[:, first:] = owners[:used].reshape(whole, body)
        if bos is not None:
            token_ids[:, 0], document_id[:, 0] = bos, document_id[:, 1]
        yield Contexts(token_ids=torch.from_numpy(token_ids), document_id=torch.from_numpy(document_id))
        cut += whole
        waiting, length = [(tokens[used:].copy(), owners[used:].copy())], length - used  # copies let the rest go


def _special_tokens(tokenizer: PreTrainedTokenizerBase, prepend_bos: bool) -> tuple[int, int]:
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if eos is None:
        raise WrongInput("the tokenizer must have an EOS token to join documents with; got none; set eos_token")
    if prepend_bos and bos is None:
        raise WrongInput("`prepend_bos` (=true) must have a BOS token; got none; use --prepend_bos false")
    return (int(bos) if prepend_bos else -1), int(eos)


def _token_stream(
    documents: Iterable[str], tokenizer: PreTrainedTokenizerBase, eos: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields `(token ids int32 [t], document numbers int32 [t])` for a batch of documents at a time."""
    for batch in _batches(documents):
        # No special tokens: BOS and EOS are placed by `pack`. verbose=False: long documents are no mistake here.
        encoded = tokenizer(
            [text for _, text in batch],
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        lengths = [len(ids) + 1 for ids in encoded]
        ids = np.fromiter(
            itertools.chain.from_iterable(itertools.chain(ids, (eos,)) for ids in encoded), np.int32, count=sum(lengths)
        )
        yield ids, np.repeat(np.asarray([number for number, _ in batch], np.int32), lengths)


def _batches(documents: Iterable[str]) -> Iterator[list[tuple[int, str]]]:
    """Yields the documents that are not empty, with their numbers, as many as are tokenised at once."""
    batch: list[tuple[int, str]] = []
    characters = 0
    for number, text in enumerate(documents):
        if number >= _MOST_DOCUMENTS:
            raise WrongInput(
                f"`corpus` must have at most {_MOST_DOCUMENTS:,} documents, because their numbers are kept in 32 bits; "
                "got more; use a part of it, or join short documents"
            )
        if text:
            batch.append((number, text))
            characters += len(text)
        if len(batch) == _DOCUMENTS_AT_ONCE or characters >= _CHARACTERS_AT_ONCE:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
