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

__all__ = ["Contexts", "pack"]

_DOCUMENTS_AT_ONCE = 512  # enough for the tokenizer's threads, little enough to stop soon after `max_contexts`


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
    """Packs `documents` into contexts of `context_length` tokens.

    Args:
        documents: texts, in order; empty ones are counted but give no token.
        tokenizer: of the transformers library, with an EOS token, and a BOS token if `prepend_bos`.
        context_length: tokens in a context, BOS included.
        max_contexts: stop reading after so many contexts.
        prepend_bos: whether each context starts with BOS.

    Returns:
        At most `max_contexts` contexts; none when the text is shorter than one.

    Raises:
        WrongInput: the tokenizer lacks a token that is needed, or `context_length` leaves no room for text.
    """
    bos, eos = _special_tokens(tokenizer, prepend_bos)
    body = context_length - int(prepend_bos)
    if body < 1:
        raise WrongInput(f"`context_length` (={context_length}) must leave room for text after BOS; do use 2 or more")
    tokens: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    pending_tokens: list[np.ndarray] = []
    pending_owners: list[np.ndarray] = []
    pending = cut = 0
    for ids, numbers in _token_stream(documents, tokenizer, eos):
        pending_tokens.append(ids)
        pending_owners.append(numbers)
        pending += len(ids)
        if pending < body:
            continue
        stream, owner = np.concatenate(pending_tokens), np.concatenate(pending_owners)
        whole = pending // body
        if max_contexts is not None:
            whole = min(whole, max_contexts - cut)
        tokens.append(stream[: whole * body].reshape(whole, body))
        owners.append(owner[: whole * body].reshape(whole, body))
        cut += whole
        pending_tokens, pending_owners = [stream[whole * body :]], [owner[whole * body :]]
        pending = len(pending_tokens[0])
        if cut == max_contexts:
            break
    empty = np.empty((0, body), np.int32)
    token_ids, document_id = np.concatenate([empty, *tokens]), np.concatenate([empty, *owners])
    if prepend_bos:
        token_ids = np.concatenate([np.full((cut, 1), bos, np.int32), token_ids], axis=1)
        document_id = np.concatenate([document_id[:, :1], document_id], axis=1)
    return Contexts(token_ids=torch.from_numpy(token_ids), document_id=torch.from_numpy(document_id))


def _special_tokens(tokenizer: PreTrainedTokenizerBase, prepend_bos: bool) -> tuple[int, int]:
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if eos is None:
        raise WrongInput("the tokenizer must have an EOS token to join documents with; got none; do set eos_token")
    if prepend_bos and bos is None:
        raise WrongInput("`prepend_bos` (=true) must have a BOS token; got none; do use --prepend_bos false")
    return (int(bos) if prepend_bos else -1), int(eos)


def _token_stream(
    documents: Iterable[str], tokenizer: PreTrainedTokenizerBase, eos: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields `(token ids int32 [t], document numbers int32 [t])` for a batch of documents at a time."""
    numbered = enumerate(documents)
    while batch := list(itertools.islice(numbered, _DOCUMENTS_AT_ONCE)):
        batch = [(number, text) for number, text in batch if text]
        if not batch:
            continue
        # No special tokens: BOS and EOS are placed by `pack`. verbose=False: long documents are no mistake here.
        encoded = tokenizer(
            [text for _, text in batch],
            add_special_tokens=False,
            return_attention_mask=False,
            verbose=False,
        )["input_ids"]
        lengths = [len(ids) + 1 for ids in encoded]
        ids = np.fromiter(itertools.chain.from_iterable((*ids, eos) for ids in encoded), np.int32, count=sum(lengths))
        yield ids, np.repeat(np.asarray([number for number, _ in batch], np.int32), lengths)
