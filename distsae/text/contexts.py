"""Cuts documents into contexts: windows of equal length, each of which the model sees as a whole.

Documents are tokenised in order and each is ended by EOS; the stream of tokens is then cut into equal pieces. With
`prepend_bos` every context starts with BOS, so that the model has its attention sink at the position where it was
trained to have it. Nothing is padded: an incomplete tail is dropped, and every position holds a real token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distsae.errors import WrongInput
from distsae.text.tokens import tokenised_documents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ContextShape", "Contexts", "cut", "cut_contexts", "pack"]


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


@dataclass(frozen=True)
class ContextShape:
    """The form of a context.

    Args:
        length: tokens in a context, BOS included.
        bos: id of the token that each context starts with; None if it starts with text.
    """

    length: int
    bos: int | None

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, context_length: int, prepend_bos: bool) -> ContextShape:
        """Returns the form of the contexts for a tokenizer.

        Raises:
            WrongInput: the tokenizer lacks BOS, or `context_length` leaves no room for text.
        """
        if prepend_bos and tokenizer.bos_token_id is None:
            raise WrongInput("`prepend_bos` (=true) needs a tokenizer with a BOS token; got none; use --no_prepend_bos")
        if context_length <= int(prepend_bos):
            raise WrongInput(f"`context_length` (={context_length}) must leave room for text after BOS; use 2 or more")
        return cls(context_length, int(tokenizer.bos_token_id) if prepend_bos else None)

    @property
    def text_tokens(self) -> int:
        """Tokens of text in a context."""
        return self.length - (self.bos is not None)


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
) -> Iterator[Contexts]:
    """Yields the contexts that `pack` returns, in order, in pieces of one or more contexts.

    Arguments and errors are those of `pack`. Memory is bounded, whatever the size of the corpus: it holds one batch of
    documents (`tokenised_documents` explains its limits), their tokens, and an incomplete context.
    """
    shape = ContextShape.of(tokenizer, context_length, prepend_bos)
    batches = tokenised_documents(
        documents,
        tokenizer,
        vocabulary,
        most_tokens=None if max_contexts is None else max_contexts * shape.text_tokens,
        documents_at_once=documents_at_once,
        characters_at_once=characters_at_once,
    )
    if max_contexts == 0:
        return iter(())
    return cut(((batch.token_ids, batch.document_id) for batch in batches), shape, max_contexts)


def cut(
    stream: Iterable[tuple[NDArray[np.int32], NDArray[np.int32]]],
    shape: ContextShape,
    max_contexts: int | None = None,
) -> Iterator[Contexts]:
    """Cuts a stream of tokens into contexts, and yields some whenever it has filled at least one.

    Args:
        stream: token ids with the numbers of their documents, both int32 `[tokens]`.
        shape: form of the contexts.
        max_contexts: number of contexts after which no more of `stream` is read; None reads all of it.
    """
    text_tokens = shape.text_tokens
    first = shape.length - text_tokens  # position of the first token of text
    pending: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []  # parts whose tokens are in no context yet
    pending_tokens = contexts = 0
    for part in stream:
        pending.append(part)
        pending_tokens += len(part[0])
        if pending_tokens < text_tokens:
            continue
        tokens, numbers = (np.concatenate(arrays) for arrays in zip(*pending, strict=True))
        count = pending_tokens // text_tokens
        if max_contexts is not None:
            count = min(count, max_contexts - contexts)
        used = count * text_tokens
        token_ids = np.empty((count, shape.length), np.int32)
        document_id = np.empty((count, shape.length), np.int32)
        token_ids[:, first:] = tokens[:used].reshape(count, text_tokens)
        document_id[:, first:] = numbers[:used].reshape(count, text_tokens)
        if shape.bos is not None:
            token_ids[:, 0] = shape.bos
            document_id[:, 0] = document_id[:, 1]
        yield Contexts(token_ids=torch.from_numpy(token_ids), document_id=torch.from_numpy(document_id))
        contexts += count
        if contexts == max_contexts:
            return
        pending = [(tokens[used:].copy(), numbers[used:].copy())]  # a view would keep the whole part in memory
        pending_tokens -= used
