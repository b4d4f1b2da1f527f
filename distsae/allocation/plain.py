"""The allocations, stated plainly on a score matrix.

Sparsification as resource allocation (arXiv 2411.02124, section 3): a budget of token-feature matches is given out
per token, over the whole batch, or per feature. These functions sort the whole matrix. They are the definition that
the streaming, distributed selectors are tested against, and they are handy in a notebook.

For all: only positive scores are selected, `-0.0` is 0, scores are compared in fp32, ties at the cut go to the
smallest (token, feature), and a score that is not finite raises `NonFiniteScores`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation.matches import Matches
from distsae.allocation.segments import largest_per_segment
from distsae.errors import NonFiniteScores, WrongInput

__all__ = ["feature_choice", "mutual_choice", "priced_choice", "token_choice"]


def token_choice(scores: Tensor, k: int) -> Matches:
    """Selects the `k` largest positive scores of each token (TopK, the baseline).

    Args:
        scores: scores of all pairs, `[tokens, features]`.
        k: matches per token, `k >= 0`.

    Returns:
        Matches sorted by token, then feature.
    """
    positives = _positives(scores, "k", k)
    quotas = torch.full((scores.shape[0],), k, device=scores.device)
    return positives.picked(largest_per_segment(positives.token, positives.score, quotas))


def mutual_choice(scores: Tensor, budget: int) -> Matches:
    """Selects the `budget` largest positive scores of the batch, wherever they are.

    Args:
        scores: scores of all pairs, `[tokens, features]`.
        budget: matches of the batch, usually `k * tokens`.

    Returns:
        Matches sorted by token, then feature; `min(budget, number of positive scores)` of them.
    """
    positives = _positives(scores, "budget", budget)
    quotas = torch.tensor([budget], device=scores.device)
    return positives.picked(largest_per_segment(torch.zeros_like(positives.token), positives.score, quotas))


def feature_choice(scores: Tensor, quotas: Tensor) -> Matches:
    """Selects the `quotas[j]` largest positive scores of each feature `j` over the tokens.

    Args:
        scores: scores of all pairs, `[tokens, features]`.
        quotas: quota of each feature, whole matches, int64 `[features]`, all >= 0.

    Returns:
        Matches sorted by token, then feature.
    """
    if quotas.shape != scores.shape[1:]:
        raise WrongInput(
            f"`quotas` must have one entry per feature; got shape {tuple(quotas.shape)} for scores "
            f"{tuple(scores.shape)}"
        )
    positives = _positives(scores, "quotas", int(quotas.min()) if quotas.numel() else 0)
    return positives.picked(largest_per_segment(positives.feature, positives.score, quotas.to(scores.device)))


def priced_choice(scores: Tensor, price: Tensor, budget: int) -> Matches:
    """Selects the `budget` largest ratios of score to price: Feature Choice with quotas that hold on average.

    Args:
        scores: scores of all pairs, `[tokens, features]`.
        price: price of each feature, rounded to fp32, `[features]`, all positive. Ratios are compared in fp32.
        budget: matches of the batch, usually `k * tokens`.

    Returns:
        Matches sorted by token, then feature, with their scores; `min(budget, number of positive scores)` of them.
    """
    if price.shape != scores.shape[1:] or not bool((price > 0).all()):
        raise WrongInput(
            f"`price` must have one positive entry per feature; got shape {tuple(price.shape)} for scores "
            f"{tuple(scores.shape)}, smallest {float(price.min()) if price.numel() else None}"
        )
    positives = _positives(scores, "budget", budget)
    exact = scores[positives.token, positives.feature].double()
    ratio = (exact / price.float().double()[positives.feature]).float()
    positives, ratio = positives.picked(ratio > 0), ratio[ratio > 0]
    quotas = torch.tensor([budget], device=scores.device)
    return positives.picked(largest_per_segment(torch.zeros_like(positives.token), ratio, quotas))


def _positives(scores: Tensor, name: str, smallest: int) -> Matches:
    """Returns all pairs with a positive score, sorted by token, then feature: the order in which ties are settled.

    Args:
        scores: scores of all pairs, `[tokens, features]`.
        name: name of the caller's argument that limits the matches.
        smallest: smallest value of that argument, checked here.
    """
    if scores.dim() != 2:
        raise WrongInput(f"`scores` must be [tokens, features]; got shape {tuple(scores.shape)}")
    if smallest < 0:
        raise WrongInput(f"`{name}` must not be negative; got {smallest}")
    scores = scores.float()
    non_finite = scores.numel() - int(scores.isfinite().sum())
    if non_finite:
        raise NonFiniteScores(f"{non_finite} of {scores.numel()} scores are not finite")
    token, feature = (scores > 0).nonzero(as_tuple=True)
    return Matches(token, feature, scores[token, feature])
