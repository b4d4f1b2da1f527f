"""The three allocations, stated plainly on a score matrix.

Sparsification as resource allocation (arXiv 2411.02124, section 3): a budget of token-feature matches is given out
per token, freely, or per feature. These functions sort the whole matrix; they are the definition that the streaming,
distributed selectors beside them are proved against, and they are handy in a notebook.

Everywhere: only positive scores are selected, `-0.0` is 0, scores are compared in fp32, ties at the cut go to the
smallest (token, feature), and a score that is not finite raises.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation.matches import Matches
from distsae.allocation.segments import largest_per_segment
from distsae.errors import NonFiniteScores, WrongInput

__all__ = ["feature_choice", "mutual_choice", "token_choice"]


def token_choice(scores: Tensor, k: int) -> Matches:
    """Each token keeps its `k` largest positive scores (TopK, the baseline).

    Args:
        scores: `[tokens, features]`.
        k: matches per token, `k >= 0`.

    Returns:
        Matches sorted by token, then feature.
    """
    token, feature, score = _positives(scores, "k", k)
    quotas = torch.full((scores.shape[0],), k, device=scores.device)
    return _keep(token, feature, score, largest_per_segment(token, score, quotas))


def mutual_choice(scores: Tensor, budget: int) -> Matches:
    """The batch keeps its `budget` largest positive scores, wherever they are.

    Args:
        scores: `[tokens, features]`.
        budget: matches in the batch, usually `k * tokens`.

    Returns:
        Matches sorted by token, then feature; `min(budget, number of positive scores)` of them.
    """
    token, feature, score = _positives(scores, "budget", budget)
    quotas = torch.tensor([budget], device=scores.device)
    return _keep(token, feature, score, largest_per_segment(torch.zeros_like(token), score, quotas))


def feature_choice(scores: Tensor, quotas: Tensor) -> Matches:
    """Feature `j` keeps its `quotas[j]` largest positive scores over the tokens.

    Args:
        scores: `[tokens, features]`.
        quotas: whole matches per feature, int64 `[features]`, all >= 0.

    Returns:
        Matches sorted by token, then feature.
    """
    if quotas.shape != scores.shape[1:]:
        raise WrongInput(
            f"`quotas` must have one entry a feature; got shape {tuple(quotas.shape)} for scores {tuple(scores.shape)}"
        )
    token, feature, score = _positives(scores, "quotas", int(quotas.min()) if quotas.numel() else 0)
    return _keep(token, feature, score, largest_per_segment(feature, score, quotas.to(scores.device)))


def _positives(scores: Tensor, name: str, smallest: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lists the positive scores by token, then feature: the order in which ties are settled."""
    if scores.dim() != 2:
        raise WrongInput(f"`scores` must be [tokens, features]; got shape {tuple(scores.shape)}")
    if smallest < 0:
        raise WrongInput(f"`{name}` must not be negative; got {smallest}")
    scores = scores.float()
    bad = scores.numel() - int(scores.isfinite().sum())
    if bad:
        raise NonFiniteScores(f"{bad} of {scores.numel()} scores are not finite")
    token, feature = (scores > 0).nonzero(as_tuple=True)
    return token, feature, scores[token, feature]


def _keep(token: Tensor, feature: Tensor, score: Tensor, keep: Tensor) -> Matches:
    return Matches(token[keep], feature[keep], score[keep])
