"""Confidence intervals by resampling contexts.

Tokens of one context share their topic and their difficulty, so whole contexts are drawn with replacement, not tokens.
A statistic is a function of sums over contexts. So resampling is one product with a matrix of multinomial counts, and
the estimate itself is the same function of the plain sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from distsae.seeds import numpy_generator

__all__ = ["Array", "Bootstrap", "Estimate", "Statistic"]

Array = npt.NDArray[np.float64]

Statistic = Callable[[Mapping[str, Array]], Array]
"""A function from sums over contexts, `[samples, ...]` by name, to values `[samples]`."""

_RESAMPLES_AT_ONCE = 100  # of one product, which bounds the memory for many contexts and a wide `d_in`


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number and its 95% interval.

    Args:
        value: statistic over all contexts; NaN where it is not defined.
        low: 2.5th percentile over the resamples; NaN if no resample defines the statistic.
        high: 97.5th percentile over the resamples; NaN where `low` is.
    """

    value: float
    low: float
    high: float

    @staticmethod
    def of(value: float, drawn: Array) -> Estimate:
        """Returns a value with the interval of its resamples, `[samples]`; those that are not finite do not count."""
        drawn = drawn[np.isfinite(drawn)]
        if drawn.size == 0:
            return Estimate(value=value, low=float("nan"), high=float("nan"))
        low, high = np.percentile(drawn, (2.5, 97.5))
        return Estimate(value=value, low=float(low), high=float(high))


class Bootstrap:
    """Estimates statistics from resampled contexts; the same draws serve every statistic.

    Args:
        contexts: number of evaluated contexts; each resample draws as many with replacement.
        seed: seed of the draws.
        resamples: number of resamples.
    """

    def __init__(self, contexts: int, seed: int, resamples: int = 1000) -> None:
        generator = numpy_generator(seed, "evaluation", "bootstrap")
        draws = generator.multinomial(contexts, np.full(contexts, 1.0 / contexts), size=resamples)
        self._counts = draws.astype(np.uint16 if contexts < 2**16 else np.uint32)

    def estimate(self, statistic: Statistic, sums: Mapping[str, Array]) -> Estimate:
        """Returns a statistic with its interval; one context alone gives none.

        Args:
            statistic: function to estimate.
            sums: sums of each context by name, `[contexts, ...]` float64.
        """
        value = float(statistic({name: part.sum(0, keepdims=True) for name, part in sums.items()})[0])
        if self._counts.shape[1] < 2:
            return Estimate.of(value, np.zeros(0))
        values = []
        for first in range(0, len(self._counts), _RESAMPLES_AT_ONCE):
            counts = self._counts[first : first + _RESAMPLES_AT_ONCE].astype(np.float64)
            values.append(statistic({name: counts @ part for name, part in sums.items()}))
        return Estimate.of(value, np.concatenate(values))

    def draws(self, resamples: int) -> Iterator[Array]:
        """Yields the first `resamples` draws: how often each context was drawn, `[contexts]`.

        They are for statistics that are no functions of sums, such as ranks.
        """
        for counts in self._counts[:resamples]:
            yield counts.astype(np.float64)
