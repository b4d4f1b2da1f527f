"""Rank correlations of features per token with difficulty and loss, and with what else differs between tokens.

A token is difficult for an SAE if its activation is reconstructed badly from as many features as every token gets on
average. That is not how hard the next token is for the language model, which the loss tells.

Tokens of a large activation have large scores, so under a budget for a whole batch they get more features whether they
are hard or not. The partial correlation with the loss takes the norm out. With `f`, `l` and `n` the ranks of features
per token, loss and norm, it is `(r_fl - r_fn r_ln) / sqrt((1 - r_fn^2) (1 - r_ln^2))`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from distsae.evaluation.bootstrap import Array, Bootstrap, Estimate

__all__ = ["RESAMPLES", "rank_correlations"]

RESAMPLES = 200
"""Resamples of an interval, fewer than elsewhere, since each of them ranks all rows anew."""

_NAMES = ("loss", "frequency", "position", "norm", "difficulty", "loss_given_norm")

_ROUNDING = 1e-12
"""The variance of ranks, as shares of the rows, and of what one explains of another, below which it is rounding."""


def rank_correlations(
    features: Array,
    *,
    loss: Array,
    frequency: Array,
    position: Array,
    norm: Array,
    difficulty: Array,
    context: npt.NDArray[np.integer],
    bootstrap: Bootstrap,
) -> dict[str, Estimate]:
    """Returns Spearman's correlations over the rows that have a loss; NaN where one of the two is constant.

    Args:
        features: features per token, `[rows]`.
        loss: loss on the next token, `[rows]`; NaN for rows without one.
        frequency: how often the row's token is in the evaluated text, `[rows]`.
        position: position in the context, `[rows]`.
        norm: norm of the activation, `[rows]`.
        difficulty: relative error of the row's reconstruction from `k` features, `[rows]`.
        context: number of the context, `[rows]`.
        bootstrap: resamples of the contexts.

    Returns:
        The correlation of features per token with `loss`, `frequency`, `position`, `norm` and `difficulty`, and
        `loss_given_norm`, the partial correlation with the loss, each with its interval.
    """
    has_loss = np.isfinite(loss)
    numbers = (features, loss, frequency, position, norm, difficulty)
    ranked = [_Ranked(number[has_loss]) for number in numbers]
    context = context[has_loss]
    value = _correlations(ranked, np.ones(len(context)))
    drawn = [_correlations(ranked, counts[context]) for counts in bootstrap.draws(RESAMPLES)]
    return {name: Estimate.of(value[name], np.array([sample[name] for sample in drawn])) for name in value}


class _Ranked:
    """Numbers that are sorted once and ranked under any weights: equal ones share the mean of their ranks."""

    def __init__(self, numbers: Array) -> None:
        values, self._group = np.unique(numbers, return_inverse=True)
        self._groups = len(values)

    def ranks(self, weights: Array) -> Array:
        """Returns the ranks where row `i` is there `weights[i]` times, up to a constant."""
        rows = np.bincount(self._group, weights=weights, minlength=self._groups)
        middle: Array = np.cumsum(rows) - rows / 2
        return middle[self._group]


def _correlations(ranked: list[_Ranked], weights: Array) -> dict[str, float]:
    total = weights.sum()
    if total == 0:
        return dict.fromkeys(_NAMES, float("nan"))
    ranks = np.stack([numbers.ranks(weights) / total for numbers in ranked])
    ranks -= (ranks @ weights / total)[:, None]
    covariance = (ranks * weights) @ ranks.T / total
    spread = np.diagonal(covariance)
    deviation = np.sqrt(np.where(spread > _ROUNDING, spread, np.nan))
    table = covariance / np.outer(deviation, deviation)
    of_loss, of_norm = table[0, [1, 4]]
    loss_and_norm = table[1, 4]
    rest = (1 - of_norm**2) * (1 - loss_and_norm**2)
    partial = (of_loss - of_norm * loss_and_norm) / np.sqrt(rest) if rest > _ROUNDING else np.nan
    return dict(zip(_NAMES, [*table[0, 1:].tolist(), float(partial)], strict=True))
