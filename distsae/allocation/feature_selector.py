"""Feature Choice on any mesh: feature `j` keeps its `m_j` largest positive scores over the tokens.

A chunk of the encoder holds whole columns, so each rank picks its top `m_j` at once and the feature axis need not
meet. Data ranks hold other tokens of the same features: they gather their picks, which contain the global ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from distsae.allocation.exchange import CandidateExchange, pick_of_all
from distsae.allocation.matches import Matches
from distsae.allocation.scores import Scores
from distsae.allocation.segments import largest_per_segment
from distsae.allocation.selector import Placement, refuse_non_finite

__all__ = ["FeatureSelector"]

_SAFETY = 0.8
"""A feature's next lower bound as a share of its last cut."""

_SECOND_LOOKS = (0.6, 0.5, 0.0)
"""A feature with too few candidates is looked at again by this share of its bound; at last it is read whole."""

_SAMPLE = 256
"""Tokens from which the lower bound of a feature without a last cut is guessed."""


class FeatureSelector:
    """Selects `quotas[j]` largest positive scores of each local feature `j` (arXiv 2411.02124, Feature Choice).

    Args:
        d_sae_local: features on this rank.

    Attributes:
        cuts: smallest selected score of each local feature in the last batch, fp32 `[d_sae_local]`; nan if it has none.
        shortfall: matches the last batch lacked.
    """

    def __init__(self, d_sae_local: int) -> None:
        self.shortfall = 0
        self.cuts = torch.full((d_sae_local,), float("nan"))
        self._exchange = CandidateExchange()
        self._quotas = torch.zeros(d_sae_local, dtype=torch.long)
        self._bounds = torch.zeros(d_sae_local)

    def forecast(self) -> dict[str, float | None]:
        """Returns what the last batches let it expect of the next; the same on all ranks that select together.

        The features' lower bounds are not: they are of one data rank's tokens. They save this rank's time alone, and
        are guessed anew.
        """
        return {"room": self._exchange.room}

    def restore_forecast(self, forecast: Mapping[str, float | None]) -> None:
        """Expects what a selector of this rule did, on whatever mesh; it saves effort and changes no selection."""
        self._exchange.room = int(forecast.get("room") or 0)

    def grant(self, quotas: Tensor) -> None:
        """Sets the whole matches of each local feature in the next global batch, int64 `[d_sae_local]`."""
        self._quotas = quotas
        self._bounds, self.cuts = self._bounds.to(quotas.device), self.cuts.to(quotas.device)

    def start(self, placement: Placement, tokens: int) -> None:
        """Starts a batch of `tokens` local tokens."""
        self._placement = placement
        self._tokens = tokens
        self._bad = 0
        self._picked: list[Matches] = []

    def offer(self, first_feature: int, scores: Scores) -> None:
        """Picks each feature's largest scores."""
        self._bad += scores.non_finite()
        rows = slice(first_feature, first_feature + scores.shape[0])
        quotas = self._quotas[rows]
        bounds = _with_guesses(self._bounds[rows], quotas, scores)
        flat, score = scores.above(bounds.masked_fill(quotas == 0, torch.inf)[:, None])
        for share in _SECOND_LOOKS:
            held = torch.bincount(flat // self._tokens, minlength=quotas.numel())
            poor = ((held < quotas) & (bounds > 0)).nonzero().squeeze(1)
            if not poor.numel():
                break
            bounds = bounds.index_copy(0, poor, share * bounds[poor])
            flat, score = _with_rows_again(flat, score, poor, bounds[poor], scores)
        feature = flat // self._tokens
        token = flat - feature * self._tokens
        keep = largest_per_segment(feature, score, quotas)
        self._picked.append(Matches(token[keep], feature[keep] + first_feature, score[keep]))

    def resolve(self) -> Matches:
        """Settles each feature's cut over the data ranks and returns this rank's matches."""
        placement = self._placement
        token = torch.cat([matches.token for matches in self._picked])
        feature = torch.cat([matches.feature for matches in self._picked])
        score = torch.cat([matches.score for matches in self._picked])
        self._bound_next(feature, score.float())
        every_feature, every_score = feature, score
        if placement.data.size > 1:
            body = torch.cat([feature.int(), score.float().view(torch.int32)])
            bodies = self._exchange.gather(placement.data, body)
            halves = [part.chunk(2) for part in bodies]
            features, scores = [half[0].long() for half in halves], [half[1].view(torch.float32) for half in halves]
            picked, mine = pick_of_all(features, scores, self._quotas, placement.data.rank)
            token = token[mine]
            feature = feature[mine]
            score = score[mine]
            every_feature, every_score = torch.cat(features)[picked], torch.cat(scores)[picked]
        self.cuts = _least(every_feature, every_score.float(), self.cuts)
        granted = self._quotas.sum() if placement.data.rank == 0 else self._quotas.new_zeros(())
        counts = placement.world.stack(torch.stack([granted.new_tensor(self._bad), granted - score.numel()]))
        refuse_non_finite(counts[:, 0])
        self.shortfall = int(counts[:, 1].sum())
        return Matches(token, feature, score)

    def _bound_next(self, feature: Tensor, score: Tensor) -> None:
        """Sets the next lower bounds from this rank's picks: a feature that filled its quota needs no lower scores.

        The bounds are of this rank's tokens, not of all data ranks': each must find its own `quotas[j]` largest.
        """
        filled = torch.bincount(feature, minlength=self._quotas.numel()) >= self._quotas
        bounds = torch.where(filled, _SAFETY * _least(feature, score, self._bounds), 0.0)
        self._bounds = torch.where(self._quotas > 0, bounds, self._bounds)


def _with_rows_again(
    flat: Tensor, score: Tensor, rows: Tensor, bounds: Tensor, scores: Scores
) -> tuple[Tensor, Tensor]:
    """Returns the candidates with those of the features `rows` found anew, by other bounds."""
    tokens = scores.shape[1]
    again = torch.zeros(scores.shape[0], dtype=torch.bool, device=flat.device).index_fill(0, rows, True)
    others = ~again[flat // tokens]
    more, more_score = scores.above(bounds[:, None], rows)
    flat, order = torch.cat([flat[others], more]).sort()
    return flat, torch.cat([score[others], more_score])[order]


def _with_guesses(bounds: Tensor, quotas: Tensor, scores: Scores) -> Tensor:
    """Returns the bounds, with a guess where there is none: what about twice the quota of a sample of tokens exceeds.

    Without it, a feature's first matches would be sought among all its positive scores, half of the tokens.
    """
    cold = ((bounds == 0) & (quotas > 0)).nonzero().squeeze(1)
    tokens = scores.shape[1]
    if not cold.numel() or tokens < 4 * _SAMPLE:
        return bounds
    sample = scores.sample(cold, tokens // _SAMPLE).sort(dim=1, descending=True).values
    place = 2 * quotas[cold] * sample.shape[1] // tokens + 4
    guess = sample.gather(1, place.clamp(max=sample.shape[1] - 1)[:, None]).squeeze(1).clamp(min=0)
    return bounds.index_copy(0, cold, torch.where(place < sample.shape[1], guess, 0.0))


def _least(feature: Tensor, score: Tensor, like: Tensor) -> Tensor:
    """Returns each feature's smallest score, nan where it has none, in the shape of `like`."""
    least = torch.full_like(like, torch.inf).scatter_reduce(0, feature, score, "amin")
    return torch.where(least.isfinite(), least, torch.nan)
