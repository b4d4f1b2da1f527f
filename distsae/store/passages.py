"""Finds contexts that have text in common with others, however their documents were cut, by a sample of passages.

A passage is a run of tokens, and its hash decides whether it is in the sample. So the same passage is in every sample
or in none, wherever in a context it lies. A context has text in common if at least a quarter of its passages in the
sample are found elsewhere: not all, because contexts that begin at another place cut other passages in two.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["PASSAGE_TOKENS", "Passages"]

PASSAGE_TOKENS = 32
"""Tokens in a passage; a quarter of a context if that is less, but not below 16 where a context has them."""

_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)
_SAMPLE_BITS = 4
"""A passage is in the sample if so many bits of its hash are zero: one in 16."""

_SHARE = 0.25

_TOKENS_AT_ONCE = 1 << 22


class Passages:
    """A sample of the passages of contexts, with a note on each whether it was found elsewhere; a byte a token.

    Args:
        contexts: token ids of contexts, whole numbers `[contexts, length]`.
    """

    def __init__(self, contexts: NDArray[np.integer]) -> None:
        samples = list(_samples(contexts))
        context = np.concatenate([np.empty(0, np.int64), *(numbers for numbers, _ in samples)])
        hashes = np.concatenate([np.empty(0, np.uint64), *(hashes for _, hashes in samples)])
        self._hashes, self._passage = np.unique(hashes, return_inverse=True)
        _, self._context = np.unique(context, return_inverse=True)
        self._found = np.zeros(len(self._hashes), np.bool_)

    def forget(self) -> None:
        """Forgets what was looked through."""
        self._found[:] = False

    def look_through(self, contexts: NDArray[np.integer]) -> None:
        """Notes which passages of the sample are in these contexts, whole numbers `[contexts, length]`."""
        if len(self._hashes):
            for _, hashes in _samples(contexts):
                place = np.searchsorted(self._hashes, hashes).clip(max=len(self._hashes) - 1)
                self._found[place[self._hashes[place] == hashes]] = True

    def common_share(self) -> float:
        """Returns the share of the contexts with text in common with those looked through; 0 if none has a sample."""
        if not len(self._context):
            return 0.0
        found = np.bincount(self._context, weights=self._found[self._passage]) / np.bincount(self._context)
        return float((found >= _SHARE).mean())


def _samples(
    contexts: NDArray[np.integer],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint64]]]:
    """Yields context numbers and hashes of the passages in the sample, both `[passages]`.

    Contexts of one token are no text, and those of unknown tokens, -1, may hold any.
    """
    length = contexts.shape[1]
    if length == 1:
        return
    rows = max(_TOKENS_AT_ONCE // length, 1)
    for start in range(0, len(contexts), rows):
        part = np.asarray(contexts[start : start + rows])
        hashes = _hashes(part, _passage_tokens(length))
        in_sample = ((hashes >> np.uint64(64 - _SAMPLE_BITS)) == 0) & (part >= 0).all(axis=1, keepdims=True)
        context, _ = np.nonzero(in_sample)
        yield context + start, hashes[in_sample]


def _passage_tokens(length: int) -> int:
    return min(max(min(PASSAGE_TOKENS, length // 4), 16), max(length - 1, 1))


def _hashes(token_ids: NDArray[np.integer], passage: int) -> NDArray[np.uint64]:
    """Returns the hash of each passage of `passage` tokens, uint64 `[contexts, length - passage + 1]`.

    It is a polynomial in the tokens, modulo 2^64; that of a passage comes from those of its halves.
    """
    with np.errstate(over="ignore"):
        tokens = (token_ids.astype(np.uint64) + np.uint64(1)) * _MIX
        tokens ^= tokens >> np.uint64(32)
        total: NDArray[np.uint64] | None = None  # of the last `covered` tokens of the passage
        covered = 0
        power, size = _BASE, 1
        part = tokens  # of `size` tokens from each place on; `power` is the base to the power of `size`
        while True:
            if passage & size:
                if total is None:
                    total = part
                else:
                    ahead = part[:, : part.shape[1] - covered]
                    total = ahead * _power(covered) + total[:, size : size + ahead.shape[1]]
                covered += size
            if covered == passage:
                break
            part = part[:, :-size] * power + part[:, size:]
            power, size = power * power, 2 * size
        assert total is not None
        mixed = total[:, : token_ids.shape[1] - passage + 1] * _MIX
        return mixed ^ (mixed >> np.uint64(29)) * _BASE


def _power(exponent: int) -> np.uint64:
    return np.uint64(pow(int(_BASE), exponent, 1 << 64))
