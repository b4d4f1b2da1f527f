"""A chunk's scores divided by a number for each feature, which a selector treats as scores."""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation.scores import Scores

__all__ = ["ScoreRatios", "least_scores"]

_ROUNDING = 2**-20
"""Share of a score by which its rounded ratio may miss a bound."""


def least_scores(divisors: Tensor) -> Tensor:
    """Returns the scores from which on a ratio may be 1, a little lower than they need be, fp32.

    Args:
        divisors: as in `ScoreRatios`, in any shape.
    """
    return divisors.float() * (1 - _ROUNDING)


class ScoreRatios:
    """The ratios score / divisor of a chunk; see `Scores`.

    Ratios are compared in fp32, like scores. They are given in the divisors' dtype: in fp64, `ratio * divisor` rounded
    to fp32 is the score again, bit for bit.

    Args:
        scores: scores of the chunk.
        divisors: positive number of each feature, `[features, 1]`, an fp32 number in fp32 or fp64; infinite for a
            feature that is left out.
        least: `least_scores(divisors)`, from who computes it once for many chunks.

    Attributes:
        score_dtype: dtype of the scores that were last found.
    """

    def __init__(self, scores: Scores, divisors: Tensor, least: Tensor | None = None) -> None:
        self._scores = scores
        self._divisors = divisors
        self._least_of_one = least_scores(divisors) if least is None else least
        self.shape = scores.shape
        self.device = scores.device
        self.doubt = scores.doubt
        self.of_features = None
        self.score_dtype = torch.float32

    def non_finite(self) -> int | Tensor:
        """Returns the number of scores that are not finite."""
        return self._scores.non_finite()

    def above(self, bound: Tensor, rows: Tensor | None = None, most: int | None = None) -> tuple[Tensor, Tensor]:
        """Finds the positive ratios that are at least a bound, `[1, 1]`; see `Scores.above`."""
        # `most` cannot be passed on: the largest scores of a chunk are not those with the largest ratios.
        flat, score = self._scores.above(self._least(bound, rows), rows)
        self.score_dtype = score.dtype
        ratio = score / self._divisors.squeeze(1)[flat // self.shape[1]]
        compared = ratio.float()
        kept = (compared >= bound.view(-1)) & (compared > 0)  # the ratio of a subnormal score may be 0
        return flat[kept], ratio[kept]

    def cutoff(self, bound: Tensor) -> Tensor:
        """Returns the bound, `[1, 1]`: what is compared follows from it chunk by chunk; see `Scores.cutoff`."""
        return bound

    def within(self, cutoff: Tensor, bound: Tensor, places: int) -> tuple[Tensor, Tensor]:
        """Finds the positive ratios that are at least a bound, `[1, 1]`; see `Scores.within`."""
        least = self._least(cutoff)
        flat, score = self._scores.within(self._scores.cutoff(least), least, places)
        self.score_dtype = score.dtype
        feature = (flat // self.shape[1]).clamp(max=self.shape[0] - 1)
        ratio = score / self._divisors.squeeze(1)[feature]
        return flat, ratio.masked_fill(ratio.float() < bound.view(-1), 0.0)

    def leading_of_features(self, quotas: Tensor, most: int) -> Tensor:
        """Returns a lower bound of each feature's ratios; see `Scores.leading_of_features`."""
        return torch.where(quotas > 0, 0.0, torch.inf)

    def leading(self, k: int) -> Tensor:
        """Returns a lower bound of each token's `k`-th largest ratio in this chunk; see `Scores.leading`."""
        return torch.zeros(self.shape[1], device=self.device)

    def sample(self, rows: Tensor, stride: int) -> Tensor:
        """Returns approximate ratios of the features `rows` for every `stride`-th token; see `Scores.sample`."""
        return self._scores.sample(rows, stride) / self._divisors[rows].float()

    def _least(self, bound: Tensor, rows: Tensor | None = None) -> Tensor:
        """Returns the scores from which on a ratio may reach the bound, a little lower than they need be."""
        assert bound.numel() == 1  # Mutual Choice has one bound for all features
        of_one = self._least_of_one if rows is None else self._least_of_one[rows]
        # A feature that is left out stays so where the bound is 0, whose product with infinity is not a number.
        return (bound * of_one).nan_to_num_(nan=torch.inf, posinf=torch.inf)
