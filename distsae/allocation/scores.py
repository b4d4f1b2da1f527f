"""A chunk of scores as a selector sees it: not a matrix, but the answers to a few questions.

A selector never needs all scores, only those above a bound. Asked this way, a chunk may be computed exactly, or in low
precision with a certified margin and exactly where it matters; the selection is the same.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from distsae.allocation.segments import just_below, true_indices, true_indices_within

__all__ = ["ExactScores", "Scores", "feature_and_token", "in_chunk"]


class Scores(Protocol):
    """The scores of a chunk of consecutive features for all of this rank's tokens, `[features, tokens]`.

    Features are counted from the first one of the chunk.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """Number of features and of tokens."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the bounds and of the answers."""
        ...

    def non_finite(self) -> int:
        """Returns the number of scores that are not finite."""
        ...

    def above(self, bound: Tensor, rows: Tensor | None = None, most: int | None = None) -> tuple[Tensor, Tensor]:
        """Finds the positive scores that are at least a bound.

        Args:
            bound: lower bound of the scores, not negative, infinite where none is wanted; expands to
                `[features, tokens]`, or to `[len(rows), tokens]`.
            rows: features of the chunk to search, int64, ascending; by default all.
            most: scores that are certainly not among the `most` largest of the chunk may be left out; by default none.

        Returns:
            Flat indices `feature * tokens + token`, int64, ascending, and the exact scores, at least fp32.
        """
        ...

    def within(self, bound: Tensor, places: int) -> tuple[Tensor, Tensor, Tensor]:
        """Finds the positive scores that are at least a bound, as `above` does, without waiting for the device.

        Args:
            bound: lower bound of the scores, not negative, infinite where none is wanted; `[1, 1]` or `[features, 1]`.
            places: number of scores that may be found.

        Returns:
            Flat indices, int64 `[places]`, ascending; the exact scores, 0 in empty places; and the number of places
            that were taken, int64 `[]`. If all were, there may have been more scores.
        """
        ...

    def leading(self, k: int) -> Tensor:
        """Returns a lower bound of each token's `k`-th largest score in this chunk, `[tokens]`."""
        ...

    def sample(self, rows: Tensor, stride: int) -> Tensor:
        """Returns approximate scores of the features `rows` for every `stride`-th token, fp32 `[rows, sample]`."""
        ...


class ExactScores:
    """Scores that have all been computed.

    Args:
        pre_acts: pre-activations, `[features, tokens]`; compared in fp32.
    """

    def __init__(self, pre_acts: Tensor) -> None:
        self._pre_acts = pre_acts
        self._non_finite: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Number of features and of tokens."""
        return self._pre_acts.shape[0], self._pre_acts.shape[1]

    @property
    def device(self) -> torch.device:
        """Device of the scores."""
        return self._pre_acts.device

    def non_finite(self) -> int:
        """Returns the number of scores that are not finite; one pass over the chunk if there are none."""
        if self._non_finite is None:  # several selectors ask
            all_finite = bool(self._pre_acts.sum().isfinite())
            self._non_finite = 0 if all_finite else self._pre_acts.numel() - int(self._pre_acts.isfinite().sum())
        return self._non_finite

    def above(self, bound: Tensor, rows: Tensor | None = None, most: int | None = None) -> tuple[Tensor, Tensor]:
        """Finds the positive scores that are at least a bound; see `Scores.above`."""
        searched = self._pre_acts if rows is None else self._pre_acts[rows]
        # The threshold is a tensor: a number would be rounded to the dtype of the scores.
        flat = true_indices(searched > just_below(bound))
        score = searched.reshape(-1)[flat]
        score = score.float() if score.dtype.itemsize < 4 else score
        return (flat if rows is None else in_chunk(flat, rows, self.shape[1])), score

    def within(self, bound: Tensor, places: int) -> tuple[Tensor, Tensor, Tensor]:
        """Finds the positive scores that are at least a bound; see `Scores.within`."""
        flat = true_indices_within(self._pre_acts > just_below(bound), places)
        pairs = self._pre_acts.numel()
        score = self._pre_acts.view(-1)[flat.clamp(max=pairs - 1)]
        score = score.float() if score.dtype.itemsize < 4 else score
        return flat, score.masked_fill_(flat == pairs, 0.0), torch.searchsorted(flat, pairs)

    def leading(self, k: int) -> Tensor:
        """Returns each token's `k`-th largest score in this chunk; see `Scores.leading`."""
        return self._pre_acts.t().topk(k, dim=1, sorted=False).values.amin(1).float()

    def sample(self, rows: Tensor, stride: int) -> Tensor:
        """Returns the scores of the features `rows` for every `stride`-th token; see `Scores.sample`."""
        return self._pre_acts[rows, ::stride].float()


def feature_and_token(flat: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """Splits flat indices `feature * tokens + token` into features and tokens."""
    feature = flat // max(tokens, 1)
    return feature, flat - feature * tokens


def in_chunk(flat: Tensor, rows: Tensor, tokens: int) -> Tensor:
    """Turns flat indices that count features within `rows` into flat indices of the chunk."""
    index = flat // max(tokens, 1)
    return flat + (rows[index] - index) * tokens
