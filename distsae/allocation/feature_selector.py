"""Feature Choice on any mesh: feature `j` keeps its `m_j` largest positive scores over the tokens.

A chunk of the encoder holds whole columns, so each rank picks the top `m_j` of its tokens at once, and feature ranks
exchange no scores. Data ranks hold other tokens of the same features: they gather their picks, which contain the global
ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from distsae.allocation.exchange import CandidateExchange, pick_of_all
from distsae.allocation.matches import Matches
from distsae.allocation.scores import Scores, feature_and_token
from distsae.allocation.segments import counted, largest_per_segment, smallest_per_segment
from distsae.allocation.selector import Placement, refuse_non_finite

__all__ = ["LEAST_GUESSED_TOKENS", "FeatureSelector"]

_SAFETY = 0.8
"""Next lower bound of a feature, as a share of its last cut."""

_RETRY_SHARES = (0.6, 0.5, 0.0)
"""A feature with fewer candidates than its quota is searched again with its bound times each of these in turn; the last
search has no bound."""

_SAMPLE_TOKENS = 256
"""Number of tokens from which the lower bound of a feature without a last cut is guessed."""

LEAST_GUESSED_TOKENS = 4 * _SAMPLE_TOKENS
"""With fewer tokens on a rank no bound is guessed: all positive scores of a feature without a last cut are held."""


class FeatureSelector:
    """Selects the `quotas[j]` largest positive scores of each local feature `j` (arXiv 2411.02124, Feature Choice).

    The quotas of a batch are set by `grant` before it starts.

    Args:
        d_sae_local: number of features on this rank.

    Attributes:
        cuts: smallest selected score of each local feature in the last batch, fp32 `[d_sae_local]`; nan without one.
        shortfall: number of matches by which the last batch missed its quotas, over all ranks.
    """

    def __init__(self, d_sae_local: int) -> None:
        self.shortfall = 0
        self.cuts = torch.full((d_sae_local,), float("nan"))
        self._exchange = CandidateExchange()
        self._quotas = torch.zeros(d_sae_local, dtype=torch.long)
        self._bounds = torch.zeros(d_sae_local)

    def set_budget(self, k: float) -> float:
        """Returns `k`: the budget is the sum of the quotas, which `grant` sets."""
        return k

    def forecast(self) -> dict[str, float | None]:
        """Returns what is expected of the next batch; the same on all ranks that exchange candidates.

        The features' lower bounds are left out: they depend on the tokens of one data rank, save work on that rank
        alone, and are guessed anew.
        """
        return self._exchange.forecast()

    def restore_forecast(self, forecast: Mapping[str, float | None]) -> None:
        """Takes over the forecast of a selector of this rule, from any mesh; it saves work and changes no selection."""
        self._exchange.restore_forecast(forecast)

    def grant(self, quotas: Tensor) -> None:
        """Sets the quota of each local feature in the next global batch, whole matches, int64 `[d_sae_local]`."""
        self._quotas = quotas
        self._bounds = self._bounds.to(quotas.device)
        self.cuts = self.cuts.to(quotas.device)

    def start(self, placement: Placement, tokens: int) -> None:
        """Starts a batch of `tokens` local tokens."""
        self._placement = placement
        self._tokens = tokens
        self._non_finite = 0
        self._picked: list[Matches] = []

    def offer(self, first_feature: int, scores: Scores) -> None:
        """Picks the largest scores of each feature of the chunk."""
        self._non_finite += scores.non_finite()
        chunk = slice(first_feature, first_feature + scores.shape[0])
        quotas = self._quotas[chunk]
        bounds = _with_guesses(self._bounds[chunk], quotas, scores)
        flat, score = scores.above(bounds.masked_fill(quotas == 0, torch.inf)[:, None])
        for share in _RETRY_SHARES:
            held = counted(flat // self._tokens, quotas.numel())
            too_few = ((held < quotas) & (bounds > 0)).nonzero().squeeze(1)
            if not too_few.numel():
                break
            bounds = bounds.index_copy(0, too_few, share * bounds[too_few])
            flat, score = _searched_again(flat, score, too_few, bounds[too_few], scores)
        feature, token = feature_and_token(flat, self._tokens)
        keep = largest_per_segment(feature, score, quotas)
        self._picked.append(Matches(token, feature + first_feature, score).picked(keep))

    def tally(self) -> Tensor | None:
        """Returns None."""
        return None

    def resolve(self, told: Tensor) -> Matches:
        """Settles the cut of each feature over the data ranks and returns this rank's matches; collective."""
        placement = self._placement
        matches = Matches.joined(self._picked)
        self._set_bounds(matches.feature, matches.score.float())
        feature_of_all = matches.feature
        score_of_all = matches.score
        if placement.data.size > 1:
            body = torch.cat([matches.feature.int(), matches.score.float().view(torch.int32)])
            halves = [part.chunk(2) for part in self._exchange.gather(placement.data, body)]
            features = [half[0].long() for half in halves]
            scores = [half[1].view(torch.float32) for half in halves]
            picked, own = pick_of_all(features, scores, self._quotas, placement.data.rank)
            matches = matches.picked(own)
            feature_of_all = torch.cat(features)[picked]
            score_of_all = torch.cat(scores)[picked]
        self.cuts = _smallest(feature_of_all, score_of_all.float(), len(self.cuts))
        # All data ranks have the same quotas: one of them counts what was granted, each what it has selected.
        granted = self._quotas.sum() if placement.data.rank == 0 else self._quotas.new_zeros(())
        missing = granted - len(matches)
        counts = placement.world.stack(torch.stack([torch.full_like(granted, self._non_finite), missing])).cpu()
        refuse_non_finite(counts[:, 0])
        self.shortfall = int(counts[:, 1].sum())
        return matches

    def _set_bounds(self, feature: Tensor, score: Tensor) -> None:
        """Sets the next lower bounds from this rank's picks: a feature that filled its quota needs no lower scores.

        The bounds are those of this rank's tokens, not of all data ranks: each must find its own `quotas[j]` largest.
        """
        filled = counted(feature, self._quotas.numel()) >= self._quotas
        bounds = torch.where(filled, _SAFETY * _smallest(feature, score, len(self._bounds)), 0.0)
        self._bounds = torch.where(self._quotas > 0, bounds, self._bounds)


def _searched_again(
    flat: Tensor, score: Tensor, features: Tensor, bounds: Tensor, scores: Scores
) -> tuple[Tensor, Tensor]:
    """Returns the candidates after searching some features of the chunk again, with other bounds.

    Args:
        flat: flat indices of the candidates so far, ascending.
        score: their scores.
        features: features to search again, ascending.
        bounds: new bound of each of these features.
        scores: the chunk.
    """
    tokens = scores.shape[1]
    is_searched = torch.zeros(scores.shape[0], dtype=torch.bool, device=flat.device).index_fill(0, features, True)
    others = ~is_searched[flat // tokens]
    found, found_score = scores.above(bounds[:, None], features)
    flat, order = torch.cat([flat[others], found]).sort()
    return flat, torch.cat([score[others], found_score])[order]


def _with_guesses(bounds: Tensor, quotas: Tensor, scores: Scores) -> Tensor:
    """Returns the bounds, with a guess for each feature without one: about twice its quota of tokens should exceed it.

    Without a guess, the first matches of a feature would be sought among all its positive scores, half of the tokens.
    """
    unbounded = ((bounds == 0) & (quotas > 0)).nonzero().squeeze(1)
    tokens = scores.shape[1]
    if not unbounded.numel() or tokens < LEAST_GUESSED_TOKENS:
        return bounds
    sample = scores.sample(unbounded, tokens // _SAMPLE_TOKENS).sort(dim=1, descending=True).values
    rank = 2 * quotas[unbounded] * sample.shape[1] // tokens + 4
    guess = sample.gather(1, rank.clamp(max=sample.shape[1] - 1)[:, None]).squeeze(1).clamp(min=0)
    return bounds.index_copy(0, unbounded, torch.where(rank < sample.shape[1], guess, 0.0))


def _smallest(feature: Tensor, score: Tensor, features: int) -> Tensor:
    """Returns the smallest score of each feature, `[features]`; nan for a feature without one."""
    smallest = smallest_per_segment(feature, score, features)
    return torch.where(smallest.isfinite(), smallest, torch.nan)
