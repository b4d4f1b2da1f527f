"""Encodes a text too long for one call of the tokenizer, window by window, to the same tokens.

A token depends on its neighbourhood alone. So windows overlap, and two of them are joined where both have the same run
of tokens at the same characters, away from the edges that a window has and the text has not. Where they have no such
run, as in a text without any place to cut, the overlap grows, at last to the rest of the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["WINDOW", "encode_long"]

WINDOW = 250_000
"""Characters of a text that are encoded at once."""

_OVERLAP = 4_000
"""Characters that two windows have in common at first."""

_RUN = 32
"""Tokens in which both windows must agree around the place where they are joined."""


def encode_long(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    window: int | None = None,
    overlap: int = _OVERLAP,
    most: int | None = None,
) -> tuple[NDArray[np.int32], int]:
    """Returns the token ids of `text`, int32 `[tokens]`, and the number of characters that they stand for.

    The tokens are those that one call gives, without BOS and EOS.

    It takes the memory of one window. A tokenizer that cannot tell which characters a token stands for, one not written
    in Rust, encodes the text in one call.

    Args:
        tokenizer: tokenizer of the transformers library.
        text: text of any length.
        window: characters that are encoded at once; `WINDOW` if not given.
        overlap: characters that two windows have in common at first.
        most: number of tokens after which the rest of the text may be left; None encodes all of it.
    """
    window = WINDOW if window is None else window
    if not tokenizer.is_fast or len(text) <= window:
        return _encode(tokenizer, text, 0, len(text))[0], len(text)
    parts = []
    done = 0
    start = joined_at = 0  # first character of the window, and of its tokens that are in no part yet
    end = window
    ids, places = _encode(tokenizer, text, start, end)
    while end < len(text) and (most is None or done < most):
        shared = min(overlap, window // 2)
        while True:
            next_start = max(end - shared, start)
            next_end = min(max(next_start + window, end + shared), len(text))
            following = _encode(tokenizer, text, next_start, next_end)
            if next_start == start:  # it has all of this window, and takes its place
                kept, skipped = 0, int(np.searchsorted(following[1][:, 0], joined_at))
                break
            if (joint := _joint((ids, places), following, next_start, end)) is not None:
                kept, skipped = joint
                break
            shared *= 4
        parts.append(ids[:kept])
        done += kept
        ids, places = following[0][skipped:], following[1][skipped:]
        start, end = next_start, next_end
        joined_at = int(places[0, 0]) if len(places) else start
    if end == len(text):
        return np.concatenate([*parts, ids]), len(text)
    return np.concatenate(parts), joined_at  # without the last window, whose end is not that of the text


def _encode(
    tokenizer: PreTrainedTokenizerBase, text: str, start: int, end: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Returns the token ids of `text[start:end]`, and the characters `[tokens, 2]` that each stands for."""
    encoded = tokenizer(
        text[start:end],
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_offsets_mapping=tokenizer.is_fast,
        verbose=False,
    )
    ids = np.asarray(encoded["input_ids"], np.int32)
    places = np.asarray(encoded["offset_mapping"] if tokenizer.is_fast else [], np.int64).reshape(-1, 2)
    return ids, places + start


def _joint(
    earlier: tuple[NDArray[np.int32], NDArray[np.int64]],
    later: tuple[NDArray[np.int32], NDArray[np.int64]],
    start: int,
    end: int,
) -> tuple[int, int] | None:
    """Returns how many tokens of the earlier window to keep, and how many of the later one to skip.

    Args:
        earlier: token ids and places of the window that ends at character `end`.
        later: those of the window that starts at character `start`.
        start: first character that both have.
        end: character after the last one that both have.
    """
    (ids, places), (next_ids, next_places) = earlier, later
    middle = start + (end - start) // 2
    run = next_ids[: int(np.searchsorted(next_places[:, 0], end))]
    if len(run) < 2 * _RUN:
        return None
    for index in range(int(np.searchsorted(next_places[:, 0], middle)), len(run) - _RUN):
        first = int(np.searchsorted(places[:, 0], next_places[index, 0]))
        before, after = index - _RUN, index + _RUN
        if before < 0 or first < _RUN or first + _RUN > len(ids):
            continue
        if np.array_equal(ids[first - _RUN : first + _RUN], next_ids[before:after]) and np.array_equal(
            places[first - _RUN : first + _RUN], next_places[before:after]
        ):
            return first, index
    return None
