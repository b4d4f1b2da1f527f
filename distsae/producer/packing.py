"""Packs tokenised documents into contexts on the disk: those to train on first, the held-out ones behind them.

Held-out documents fill contexts of their own, so that none of their text is trained on. A corpus of too few documents
has its end held out instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from distsae.producer.growing_array import GrowingArray
from distsae.text import ContextShape, Repeats, TokenisedDocuments, choose_heldout, cut, repeats

__all__ = ["HeldoutBy", "HeldoutRule", "Packed", "contexts_to_hold_out", "pack_documents", "tokens_wanted"]

HeldoutBy = Literal["contexts", "documents", "end"]


@dataclass(frozen=True, kw_only=True)
class HeldoutRule:
    """How much is held out, and of what.

    Args:
        by: `"documents"` holds out whole documents; `"contexts"` leaves the choice among contexts to the plan of units.
        share: share of the contexts to hold out; at least one context.
        most: most contexts to hold out.
    """

    by: Literal["contexts", "documents"]
    share: float
    most: int


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What packing gave.

    Args:
        contexts: number of contexts on the disk, held-out ones included.
        heldout_by: what was held out.
        heldout: number of contexts at the end that are held out; None if that is left to the plan of units.
        documents: number of documents whose text is in them.
        repeats: how much of the text had been there before.
    """

    contexts: int
    heldout_by: HeldoutBy
    heldout: int | None
    documents: int
    repeats: Repeats


def tokens_wanted(max_contexts: int | None, rule: HeldoutRule, shape: ContextShape) -> int | None:
    """Returns how many tokens fill `max_contexts` contexts; None for all of the corpus.

    Two more contexts make up for what is left over at the ends of two streams.
    """
    if max_contexts is None:
        return None
    return (max_contexts + 2 * (rule.by == "documents")) * shape.text_tokens


def contexts_to_hold_out(share: float, contexts: int, most: int) -> int:
    """Returns how many of `contexts` contexts are held out."""
    return min(max(round(share * contexts), 1), most)


def pack_documents(
    read: Callable[[], Iterator[TokenisedDocuments]],
    folder: Path,
    shape: ContextShape,
    rule: HeldoutRule,
    max_contexts: int | None,
) -> Packed:
    """Writes contexts to `token_ids.npy` and `document_id.npy` in `folder`, a piece at a time.

    The result depends on the documents alone, and not on the pieces in which they are read.

    Args:
        read: function that reads all documents in order, each time it is called.
        folder: folder to write into.
        shape: form of the contexts.
        rule: what to hold out.
        max_contexts: most contexts to write, held-out ones included; None for no limit.
    """
    wanted = tokens_wanted(max_contexts, rule, shape)
    lengths, digests = _lengths_and_digests(read, wanted)
    contexts = int(lengths.sum()) // shape.text_tokens
    if max_contexts is not None:
        contexts = min(contexts, max_contexts)
    heldout_by: HeldoutBy = rule.by
    goal = contexts_to_hold_out(rule.share, contexts, rule.most)
    chosen = np.zeros(len(lengths), np.bool_)
    heldout: int | None = None
    if rule.by == "documents":
        chosen = choose_heldout(lengths, digests, goal * shape.text_tokens, shape.text_tokens)
        heldout = min(int(lengths[chosen].sum()) // shape.text_tokens, goal)
        train = int(lengths[~chosen].sum()) // shape.text_tokens
        if 2 * heldout >= goal and train:
            contexts = heldout + min(train, contexts - heldout)
        else:
            heldout_by, heldout = "end", goal
            chosen = np.zeros(len(lengths), np.bool_)
    sides = [(~chosen, contexts - heldout), (chosen, heldout)] if heldout_by == "documents" and heldout else None
    with (
        GrowingArray(folder / "token_ids.npy", shape.length) as token_ids,
        GrowingArray(folder / "document_id.npy", shape.length) as document_id,
    ):
        for side, count in sides or [(~chosen, contexts)]:
            for piece in cut(_stream(read, side), shape, count) if count else ():
                token_ids.append(piece.token_ids.numpy())
                document_id.append(piece.document_id.numpy())
    return Packed(
        contexts=token_ids.rows,
        heldout_by=heldout_by,
        heldout=heldout,
        documents=int((lengths > 0).sum()),
        repeats=repeats(lengths, digests),
    )


def _lengths_and_digests(
    read: Callable[[], Iterator[TokenisedDocuments]], wanted: int | None
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Returns lengths and digests of the documents up to the one with the last token that is wanted."""
    lengths, digests = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    tokens = 0
    for piece in read():
        lengths.append(piece.lengths)
        digests.append(piece.digests)
        tokens += len(piece.token_ids)
        if wanted is not None and tokens >= wanted:
            break
    all_lengths = np.concatenate(lengths)
    end = len(all_lengths)
    if wanted is not None:
        end = min(int(np.searchsorted(np.cumsum(all_lengths), wanted)) + 1, end)
    return all_lengths[:end], np.concatenate(digests)[:end]


def _stream(
    read: Callable[[], Iterator[TokenisedDocuments]], side: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """Yields the tokens of the documents of one side; documents behind the last of `side` belong to none."""
    for piece in read():
        if piece.first >= len(side):
            return
        of_piece = np.zeros(len(piece), np.bool_)
        known = side[piece.first : piece.first + len(piece)]
        of_piece[: len(known)] = known
        yield piece.only(of_piece)
