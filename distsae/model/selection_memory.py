"""The memory of a selection: bytes of a score, and how many features a chunk of scores may therefore have.

All figures are measured with `python -m tests.benchmarks.selection_memory`. Pairs are for scores that are computed in
fp32, and for scores that the prefilter only bounds in bf16: `BYTES[prefilter]`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from distsae.model.training_rule import AllocationName

__all__ = [
    "ALL_CANDIDATES_BYTES",
    "FIRST_STEP_BYTES",
    "GPU_SELECTION_MB",
    "SELECTION_MB",
    "chunk_bounds",
    "chunk_size",
    "least_selection_mb",
    "selection_mb_on",
]

SELECTION_MB = 128
"""Default memory in MiB for one chunk of scores and the work of selecting from it."""

GPU_SELECTION_MB = 4096
"""The same on a GPU, where a chunk costs dozens of launches whatever its size: a step of 131072 features and 8192
tokens has 7 chunks instead of 193."""

_WORST_BYTES = (48, 24)
"""Memory of a score in the worst case, on which the size of a chunk is based: 4 or 2 bytes for the score, 1 for the
mask, and without a lower bound the indices of all positive scores. Measured: 32 and 15 bytes if half of the scores are
positive, 43 and 20 if two thirds are; with a lower bound 5 to 7 and 3 to 4."""

ALL_CANDIDATES_BYTES = (_WORST_BYTES[False], 40)
"""The same if all positive scores become candidates: when thresholds are calibrated, and in the first step of Feature
Choice with too few tokens on a rank to estimate bounds from a sample (`distsae.allocation.LEAST_GUESSED_TOKENS`)."""

FIRST_STEP_BYTES: dict[AllocationName, tuple[float, float]] = {
    "token_choice": (5.5, 3.7),
    "mutual_choice": (32.1, 15.3),
    "feature_choice": (6.1, 4.1),
}
"""Memory of a score in the first step of each rule, when no bound is known yet and half of the scores are positive."""

_MOST_SCORES = (1 << 31) - 1
"""Most scores of a chunk: CUDA lists the true entries of no larger mask without waiting."""

_FEWEST = 8
"""Smallest number of features in a chunk. Products with fewer take another path on CPU and differ in the last bit; from
eight on, every split gave the bits of the whole product in all shapes tried."""


def chunk_bounds(features: int, tokens: int, selection_mb: float, prefilter: bool) -> list[tuple[int, int]]:
    """Returns `(first feature, last feature, exclusive)` of each chunk.

    The number of features in a chunk is a multiple of eight; fewer than eight at the end are part of the last chunk.

    Args:
        features: number of features of the shard.
        tokens: number of tokens on this rank.
        selection_mb: memory in MiB for a chunk and the work of selecting from it.
        prefilter: whether scores are only bounded in bf16.
    """
    size = _affordable(tokens, selection_mb, prefilter)
    firsts = list(range(0, max(features - _FEWEST, 0) + 1, size))
    return list(pairwise([*firsts, features]))


def chunk_size(features: int, tokens: int, selection_mb: float, prefilter: bool) -> int:
    """Returns the largest number of features in a chunk of scores; the arguments are those of `chunk_bounds`."""
    return min(_affordable(tokens, selection_mb, prefilter) + _FEWEST - 1, features)


def least_selection_mb(tokens: int) -> int:
    """Returns the smallest `selection_mb`, in whole MiB, for `tokens` tokens on a rank."""
    return -(-_FEWEST * _WORST_BYTES[False] * tokens // (1 << 20))


def selection_mb_on(device_type: str, tokens: int, given: float | Literal["auto"] = "auto") -> float:
    """Returns the memory in MiB for one chunk of scores.

    Args:
        device_type: type of the device of the scores, such as `"cpu"` or `"cuda"`.
        tokens: number of tokens on this rank.
        given: what was asked for; `auto` is the default of the device, or the least that will do.
    """
    if given != "auto":
        return given
    return max(SELECTION_MB if device_type == "cpu" else GPU_SELECTION_MB, least_selection_mb(tokens))


def _affordable(tokens: int, selection_mb: float, prefilter: bool) -> int:
    scores = min(int(selection_mb * (1 << 20)) // _WORST_BYTES[prefilter], _MOST_SCORES)
    features = scores // max(tokens, 1)
    return max(features // _FEWEST * _FEWEST, _FEWEST)
