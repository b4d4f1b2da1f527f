"""A block of scores as a selector sees it: not a matrix, but the answers to a few questions.

A selector never needs all scores, only those above a bound. Asked this way, a block may be computed exactly, or in low
precision with a certified margin and exactly where it matters; the selection is the same.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from distsae.allocation.segments import just_below, true_indices

__all__ = ["ExactScores", "Scores", "in_block"]


class Scores(Protocol):
    """The scores of all of a rank's tokens for a few consecutive features, `[features, tokens]`."""

    @property
    def shape(self) -> tuple[int, int]:
        """Features and tokens."""
        ...

    @property
    def device(self) -> torch.device:
        """Where answers are."""
        ...

    def non_finite(self) -> int:
        """Returns how many of the scores are not finite."""
        ...

    def above(self, bound: Tensor, rows: Tensor | None = None, most: int | None = None) -> tuple[Tensor, Tensor]:
        """Finds the positive scores that are not under a bound.

        Args:
            bound: not negative, infinite where nothing is wanted; expands to `[features, tokens]`, or
                `[len(rows), tokens]`.
            rows: features to look at, as places in this block, ascending int64; all by default.
            most: scores that are surely not among the `most` largest of the block may be left out.

        Returns:
            Flat indices `feature * tokens + token`, ascending int64 and with `feature` a place in this block, and the
            exact scores, at least fp32.
        """
        ...

    def leading(self, k: int) -> Tensor:
        """Returns for each token a score that its `k`-th largest of this block is not under, `[tokens]`."""
        ...

    def sample(self, rows: Tensor, stride: int) -> Tensor:
        """Returns every `stride`-th token's scores of some rows, roughly, fp32 `[rows, tokens / stride]`."""
        ...


class ExactScores:
    """Scores that are all there.

    Args:
        pre_acts: pre-activations, `[features, tokens]`; compared in fp32.
    """

    def __init__(self, pre_acts: Tensor) -> None:
        self._pre_acts = pre_acts
        self._non_finite: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Features and tokens."""
        return self._pre_acts.shape[0], self._pre_acts.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the scores are."""
        return self._pre_acts.device

    def non_finite(self) -> int:
        """Counts the scores that are not finite; one pass over the block when all are well."""
        if self._non_finite is None:  # several selectors ask
            well = bool(self._pre_acts.sum().isfinite())
            self._non_finite = 0 if well else self._pre_acts.numel() - int(self._pre_acts.isfinite().sum())
        return self._non_finite

    def above(self, bound: Tensor, rows: Tensor | None = None, most: int | None = None) -> tuple[Tensor, Tensor]:
        """Finds the positive scores that are not under a bound; see `Scores.above`."""
        wanted = self._pre_acts if rows is None else self._pre_acts[rows]
        # A tensor, not a number, which would be rounded to the dtype of the scores.
        flat = true_indices(wanted > just_below(bound))
        # Half precision loses nothing by being widened.
        score = wanted.reshape(-1)[flat]
        score = score.float() if score.dtype.itemsize < 4 else score
        return (flat if rows is None else in_block(flat, rows, self.shape[1])), score

    def leading(self, k: int) -> Tensor:
        """Returns each token's `k`-th largest score of this block; see `Scores.leading`."""
        return self._pre_acts.t().topk(k, dim=1, sorted=False).values.amin(1).float()

    def sample(self, rows: Tensor, stride: int) -> Tensor:
        """Returns every `stride`-th token's scores of some rows."""
        return self._pre_acts[rows, ::stride].float()


def in_block(flat: Tensor, rows: Tensor, tokens: int) -> Tensor:
    """Turns flat indices that count features within `rows` into those of the block."""
    place = flat // max(tokens, 1)
    return flat + (rows[place] - place) * tokens
