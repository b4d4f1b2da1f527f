"""Decides which documents are held out, so that no text is on both sides of the split.

Documents are chosen whole, by the digest of their text: copies of a text are on the same side, and other stores of the
same corpus hold out the same documents, whatever their seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Repeats", "choose_heldout", "repeats"]


@dataclass(frozen=True)
class Repeats:
    """How much of a corpus has been there before.

    Args:
        documents: number of documents that have the text of an earlier one.
        of_documents: number of all documents with text.
        tokens: tokens of the documents that repeat.
        of_tokens: tokens of all documents.
    """

    documents: int
    of_documents: int
    tokens: int
    of_tokens: int


def choose_heldout(
    lengths: NDArray[np.int64], digests: NDArray[np.uint64], wanted: int, context: int
) -> NDArray[np.bool_]:
    """Returns which documents are held out, bool `[documents]`.

    In the order of their digests, which is as good as random and the same wherever the text appears, each document is
    held out that does not exceed what is still wanted by more than a context. So the amount is nearly exact, and
    documents longer than all that is wanted are trained on.

    Args:
        lengths: number of tokens of each document.
        digests: digest of the text of each document.
        wanted: tokens to hold out.
        context: tokens of text in a context.
    """
    heldout = np.zeros(len(lengths), np.bool_)
    texts, text_of = np.unique(digests, return_inverse=True)
    tokens = np.bincount(text_of, weights=lengths, minlength=len(texts)).astype(np.int64)
    chosen = np.zeros(len(texts), np.bool_)
    left = wanted
    start = 0
    while left > 0 and start < len(texts):
        fits = np.flatnonzero((tokens[start:] > 0) & (tokens[start:] < left + context))
        if not len(fits):
            break
        # As many as fit one after the other, found at once; the next of them may be too long, and is looked at again.
        sums = np.cumsum(tokens[start + fits])
        count = max(int(np.searchsorted(sums, left, side="right")), 1)
        chosen[start + fits[:count]] = True
        left -= int(sums[count - 1])
        start += int(fits[count - 1]) + 1
    np.take(chosen, text_of, out=heldout)
    return heldout


def repeats(lengths: NDArray[np.int64], digests: NDArray[np.uint64]) -> Repeats:
    """Counts the documents that have the text of an earlier one."""
    with_text = lengths > 0
    lengths, digests = lengths[with_text], digests[with_text]
    _, first = np.unique(digests, return_index=True)
    later = np.ones(len(lengths), np.bool_)
    later[first] = False
    return Repeats(int(later.sum()), len(lengths), int(lengths[later].sum()), int(lengths.sum()))
