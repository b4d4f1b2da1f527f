"""A chunk of scores as a selector sees it: not a matrix, but the answers to a few questions.

A selector never needs all scores, only those above a bound. Asked this way, a chunk may be computed exactly, or in low
precision with a certified margin and exactly where it matters; the selection is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from distsae.allocation.segments import just_below, true_indices, true_indices_within

__all__ = ["EMPTY", "ExactScores", "Scores", "feature_and_token", "in_chunk", "smallest_of_first"]

EMPTY = 1 << 40
"""Stands for a flat index in an empty place: larger than any real one."""


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

    @property
    def doubt(self) -> Tensor | None:
        """Whether the answers may be wrong, so that the batch must be offered again: bool `[]`; None if they are not.

        It is the same tensor for all chunks of a pass.
        """
        ...

    @property
    def of_features(self) -> Callable[[Tensor], Scores] | None:
        """Returns scores of any features of this rank, given their local indices, int64 `[any]`.

        They are the same, bit for bit, as in the chunks of this pass, and may be asked for until the next one. None if
        they would not be the same.
        """
        ...

    def non_finite(self) -> int | Tensor:
        """Returns the number of scores that are not finite; on a GPU it may be a tensor, int64 `[]`."""
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

    def cutoff(self, bound: Tensor) -> Tensor:
        """Returns what `within` compares with, given lower bounds of scores, not negative, in their shape."""
        ...

    def within(self, cutoff: Tensor, bound: Tensor, places: int) -> tuple[Tensor, Tensor]:
        """Finds the positive scores that are at least a bound, as `above` does, without waiting for the device.

        Args:
            cutoff: `cutoff` of a lower bound of the scores, infinite where none is wanted; expands to
                `[features, tokens]`. Where no score can reach the bound, no place is taken.
            bound: scores below it may be returned as 0; `[1, 1]` or `[features, 1]`.
            places: number of scores that may be found.

        Returns:
            Flat indices, int64 `[places]`, ascending, `EMPTY` in places that were not taken; and the exact scores, 0 in
            empty places. If all places were taken, there may have been more scores.
        """
        ...

    def leading(self, k: int) -> Tensor:
        """Returns a lower bound of each token's `k`-th largest score in this chunk, `[tokens]`."""
        ...

    def leading_of_features(self, quotas: Tensor, most: int) -> Tensor:
        """Returns a lower bound of the `quotas[feature]`-th largest score of each feature, `[features]`, not negative.

        It is infinite for a feature without quota. Without waiting for the device.

        Args:
            quotas: whole matches, int64 `[features]`.
            most: largest quota, or more; at most the number of tokens.
        """
        ...

    def sample(self, rows: Tensor, stride: int) -> Tensor:
        """Returns approximate scores of the features `rows` for every `stride`-th token, fp32 `[rows, sample]`."""
        ...


class ExactScores:
    """Scores that have all been computed.

    Args:
        pre_acts: pre-activations, `[features, tokens]`; compared in fp32.
    """

    doubt = None
    of_features = None  # another product may round otherwise

    def __init__(self, pre_acts: Tensor) -> None:
        self._pre_acts = pre_acts
        self._non_finite: int | Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Number of features and of tokens."""
        return self._pre_acts.shape[0], self._pre_acts.shape[1]

    @property
    def device(self) -> torch.device:
        """Device of the scores."""
        return self._pre_acts.device

    def non_finite(self) -> int | Tensor:
        """Returns the number of scores that are not finite; on a CPU one pass over the chunk if there are none."""
        if self._non_finite is None and self._pre_acts.is_cuda:
            self._non_finite = (~self._pre_acts.isfinite()).sum()
        elif self._non_finite is None:  # several selectors ask
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

    def cutoff(self, bound: Tensor) -> Tensor:
        """Returns what `within` compares with; see `Scores.cutoff`."""
        return just_below(bound)

    def within(self, cutoff: Tensor, bound: Tensor, places: int) -> tuple[Tensor, Tensor]:
        """Finds the positive scores that are at least a bound; see `Scores.within`."""
        flat = true_indices_within(self._pre_acts > cutoff, places, EMPTY)
        score = self._pre_acts.view(-1)[flat.clamp(max=self._pre_acts.numel() - 1)]
        score = score.float() if score.dtype.itemsize < 4 else score
        return flat, score.masked_fill_(flat == EMPTY, 0.0)

    def leading(self, k: int) -> Tensor:
        """Returns each token's `k`-th largest score in this chunk; see `Scores.leading`."""
        return self._pre_acts.t().topk(k, dim=1, sorted=False).values.amin(1).float()

    def leading_of_features(self, quotas: Tensor, most: int) -> Tensor:
        """Returns the `quotas[feature]`-th largest score of each feature; see `Scores.leading_of_features`."""
        return smallest_of_first(self._pre_acts.topk(most, dim=1).values.float(), quotas)

    def sample(self, rows: Tensor, stride: int) -> Tensor:
        """Returns the scores of the features `rows` for every `stride`-th token; see `Scores.sample`."""
        return self._pre_acts[rows, ::stride].float()


def smallest_of_first(scores: Tensor, quotas: Tensor) -> Tensor:
    """Returns the smallest of the first `quotas[row]` scores of each row, not negative; infinite for a quota of 0.

    Args:
        scores: scores, `[rows, most]`.
        quotas: whole numbers, int64 `[rows]`.
    """
    is_first = torch.arange(scores.shape[1], device=scores.device) < quotas[:, None]
    return torch.where(is_first, scores, torch.inf).amin(1).clamp_(min=0)


def feature_and_token(flat: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """Splits flat indices `feature * tokens + token` into features and tokens."""
    feature = flat // max(tokens, 1)
    return feature, flat - feature * tokens


def in_chunk(flat: Tensor, rows: Tensor, tokens: int) -> Tensor:
    """Turns flat indices that count features within `rows` into flat indices of the chunk."""
    index = flat // max(tokens, 1)
    return flat + (rows[index] - index) * tokens
