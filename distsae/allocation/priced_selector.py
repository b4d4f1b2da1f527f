"""Feature Choice with quotas that hold on average: the budget goes to the largest ratios of score to price.

That is Mutual Choice among ratios, so it needs no more exchange than Mutual Choice, and one cut for all features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from distsae.allocation.matches import Matches
from distsae.allocation.mutual_selector import MutualSelector
from distsae.allocation.score_ratios import ScoreRatios, least_scores
from distsae.allocation.scores import Scores
from distsae.allocation.selector import Placement

__all__ = ["PricedSelector"]


class PricedSelector:
    """Selects the `k * tokens` largest ratios of score to price of the global batch.

    Args:
        k: mean matches per token; need not be whole.
        price: price of each local feature, all positive, fp64 `[d_sae_local]`: the live tensor, read when a batch
            starts.

    Attributes:
        shortfall: number of matches by which the last batch missed its budget, over all ranks.
        cut: smallest selected ratio of the last batch; None if the batch fell short of its budget.
        cuts: smallest score that each local feature would have been selected with in the last batch, fp64
            `[d_sae_local]`; None if the batch fell short of its budget.
    """

    def __init__(self, k: float, price: Tensor) -> None:
        self.shortfall = 0
        self._price = price
        self._divisors = price
        self._least = price
        self._ratios = MutualSelector(k)
        self._dtype = torch.float32  # of the scores

    @property
    def cut(self) -> float | None:
        """Smallest selected ratio of the last batch; None if the batch fell short of its budget."""
        return self._ratios.cut

    @property
    def cuts(self) -> Tensor | None:
        """Threshold of each local feature in the last batch, fp64; None if the batch fell short of its budget."""
        return None if self.cut is None else self._divisors * self.cut

    def set_budget(self, k: float) -> float:
        """Sets the mean matches per token of the next batches, and returns it."""
        return self._ratios.set_budget(k)

    def forecast(self) -> dict[str, float | None]:
        """Returns what the last batches let this selector expect of the next; the same on all ranks of a mesh."""
        return self._ratios.forecast()

    def restore_forecast(self, forecast: Mapping[str, float | None]) -> None:
        """Takes over the forecast of a selector of this rule, from any mesh; it saves work and changes no selection."""
        self._ratios.restore_forecast(forecast)

    def start(self, placement: Placement, tokens: int) -> None:
        """Starts a batch of `tokens` local tokens."""
        self._divisors = self._price.float().double()  # the plain rule divides by fp32 prices
        self._least = least_scores(self._divisors)
        self._ratios.start(placement, tokens)

    def offer(self, first_feature: int, scores: Scores) -> None:
        """Keeps the ratios of the chunk that reach the lower bound."""
        of_chunk = slice(first_feature, first_feature + scores.shape[0])
        ratios = ScoreRatios(scores, self._divisors[of_chunk, None], self._least[of_chunk, None])
        self._ratios.offer(first_feature, ratios)
        self._dtype = ratios.score_dtype

    def tally(self) -> Tensor:
        """Counts the candidates of all ranks; see `MutualSelector.tally`. Collective."""
        return self._ratios.tally()

    def resolve(self, told: Tensor) -> Matches | None:
        """Finds the global cut and returns this rank's matches, or None if the lower bound was too high; collective."""
        matches = self._ratios.resolve(told)
        if matches is None:
            return None
        self.shortfall = self._ratios.shortfall
        score = matches.score * self._divisors[matches.feature]
        return Matches(matches.token, matches.feature, score.to(self._dtype))
