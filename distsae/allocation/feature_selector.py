"""Feature Choice on any mesh: feature `j` keeps its `m_j` largest positive scores over the tokens.

A chunk of the encoder holds whole columns, so each rank picks the top `m_j` of its tokens at once, and feature ranks
exchange no scores. Data ranks hold other tokens of the same features: they gather their picks, which contain the global
ones.

On a GPU, once the bounds of most features are known, candidates get a fixed number of places (`roomy_features.py`), so
that the CPU waits for the device once in a batch and not in every chunk; data ranks wait again for what they gather.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from distsae.allocation.exchange import CandidateExchange, pick_of_all
from distsae.allocation.matches import Matches
from distsae.allocation.roomy_features import FeaturePlaces, FeatureRoom, RoomyFeatures
from distsae.allocation.scores import Scores, feature_and_token
from distsae.allocation.segments import counted, largest_per_segment, smallest_per_segment
from distsae.allocation.selector import Placement, as_count, refuse_non_finite

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
        self._doubt: Tensor | None = None
        self._corrected: Callable[[], Tensor] | None = None
        self._places = FeaturePlaces()
        self._budget = 0  # matches of the last batch
        self._chunk_features = 0

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

    def grant(self, quotas: Tensor, doubt: Tensor | None = None, corrected: Callable[[], Tensor] | None = None) -> None:
        """Sets the quotas of the next global batch.

        Args:
            quotas: quota of each local feature, whole matches, int64 `[d_sae_local]`.
            doubt: whether they may be wrong, bool `[]`; None if they are right.
            corrected: returns the right quotas, collective; called if there proves to be doubt.
        """
        self._quotas = quotas
        self._doubt = doubt
        self._corrected = corrected
        self._bounds = self._bounds.to(quotas.device)
        self.cuts = self.cuts.to(quotas.device)

    def start(self, placement: Placement, tokens: int) -> None:
        """Starts a batch of `tokens` local tokens."""
        self._placement = placement
        self._tokens = tokens
        self._non_finite: int | Tensor = 0
        self._picked: list[Matches] = []
        self._found: list[int] = []  # candidates of each chunk
        self._lacking: list[Tensor] = []  # quotas of the features that were searched again
        self._room: FeatureRoom | None = None
        self._roomy: RoomyFeatures | None = None
        if self._quotas.is_cuda and self._chunk_features:
            self._room = self._places.room(self._quotas.numel(), self._chunk_features, tokens, self._budget)

    def offer(self, first_feature: int, scores: Scores) -> None:
        """Picks the largest scores of each feature of the chunk."""
        self._device = scores.device
        self._non_finite += scores.non_finite()
        self._of_features = scores.of_features
        if self._room is not None and self._of_features is not None:
            if self._roomy is None:
                self._roomy = RoomyFeatures(self._quotas, self._bounds, self._tokens, self._room)
            self._roomy.offer(first_feature, scores)
            return
        if self._doubt is not None:  # here the CPU waits anyway
            self._settle_doubt(bool(self._doubt))
        self._chunk_features = max(self._chunk_features, scores.shape[0])
        chunk = slice(first_feature, first_feature + scores.shape[0])
        quotas = self._quotas[chunk]
        bounds = _with_guesses(self._bounds[chunk], quotas, scores)
        flat, score = scores.above(bounds.masked_fill(quotas == 0, torch.inf)[:, None])
        for share in _RETRY_SHARES:
            held = counted(flat // self._tokens, quotas.numel())
            too_few = ((held < quotas) & (bounds > 0)).nonzero().squeeze(1)
            if share == _RETRY_SHARES[0] and self._device.type == "cuda":
                self._lacking.append(quotas[(quotas > 0) & ((held < quotas) | (self._bounds[chunk] == 0))])
            if not too_few.numel():
                break
            bounds = bounds.index_copy(0, too_few, share * bounds[too_few])
            flat, score = _searched_again(flat, score, too_few, bounds[too_few], scores)
        self._found.append(flat.numel())
        feature, token = feature_and_token(flat, self._tokens)
        keep = largest_per_segment(feature, score, quotas)
        self._picked.append(Matches(token, feature + first_feature, score).picked(keep))

    def tally(self) -> Tensor | None:
        """On a GPU, picks the largest candidates of this rank; collective.

        Returns:
            Sums over all ranks: scores that are not finite, ranks whose quotas are in doubt, ranks that lacked places,
            matches missing if data ranks exchange none. Then the picks of this rank, and what `RoomyFeatures.tally`
            returned last.
        """
        if self._device.type != "cuda":
            return None
        doubt = none = torch.zeros(1, dtype=torch.long, device=self._device)
        if self._doubt is not None:
            doubt = self._doubt.long()[None]
        if self._roomy is not None and self._of_features is not None:
            picks, lacks, told = self._roomy.tally(self._of_features)
            self._of_features = None
        else:
            picks = as_count(sum(len(picked) for picked in self._picked), self._device)
            lacks, told = none, none[:0]
        numbers = [as_count(self._non_finite, self._device), doubt, lacks.long(), self._granted()[None] - picks]
        return torch.cat([self._placement.world.sum(torch.cat(numbers)), picks, told])

    def resolve(self, told: Tensor) -> Matches | None:
        """Settles the cut of each feature over the data ranks and returns this rank's matches; collective.

        None if quotas were wrong, or a fixed number of places did not suffice.
        """
        placement = self._placement
        on_gpu = told.numel() > 0
        if on_gpu:
            if told[0]:
                refuse_non_finite(placement.world.stack(as_count(self._non_finite, self._device)).squeeze(1))
            if self._settle_doubt(bool(told[1])):
                return None
            fitted = self._learn_places(told[5:].tolist())
            if told[2]:
                return None
            assert fitted
        if self._roomy is not None:
            matches = self._roomy.matches(int(told[4]))
            smallest, number = self._roomy.cuts()
            self._set_bounds(smallest, number)
        else:
            matches = Matches.joined(self._picked)
            number = counted(matches.feature, self._quotas.numel())
            smallest = smallest_per_segment(matches.feature, matches.score.float(), self._quotas.numel())
            self._set_bounds(smallest, number)
        if on_gpu and placement.data.size == 1:
            self.cuts = torch.where(number > 0, smallest, torch.nan)
            self.shortfall = int(told[3])
            self._budget = len(matches) + self.shortfall
            return matches
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
        missing = self._granted() - len(matches)
        non_finite = as_count(0 if on_gpu else self._non_finite, missing.device)
        counts = placement.world.stack(torch.cat([non_finite, missing[None]])).cpu()
        refuse_non_finite(counts[:, 0])
        self.shortfall = int(counts[:, 1].sum())
        self._budget = len(matches)
        return matches

    def _granted(self) -> Tensor:
        """Returns what was granted, on one of the data ranks, and 0 on the others: all have the same quotas."""
        return self._quotas.sum() if self._placement.data.rank == 0 else self._quotas.new_zeros(())

    def _settle_doubt(self, wrong: bool) -> bool:
        """Replaces the quotas if they were wrong, and returns whether they were; collective."""
        corrected, self._doubt = self._corrected, None
        if not wrong:
            return False
        assert corrected is not None
        self.grant(corrected())
        return True

    def _learn_places(self, told: list[int]) -> bool:
        """Takes over how many places were needed, and returns whether there were as many.

        Args:
            told: what `RoomyFeatures.tally` returned last; empty without such a pass.
        """
        if self._roomy is not None and self._room is not None:
            return self._places.fitted(self._room, told, self._roomy.chunks, self._budget)
        lacking = torch.cat(self._lacking)
        self._places.learn(self._found, lacking.numel(), int(lacking.max()) if lacking.numel() else 0)
        return True

    def _set_bounds(self, smallest: Tensor, number: Tensor) -> None:
        """Sets the next lower bounds from this rank's picks: a feature that filled its quota needs no lower scores.

        The bounds are those of this rank's tokens, not of all data ranks: each must find its own `quotas[j]` largest.

        Args:
            smallest: smallest pick of each feature, fp32 `[d_sae_local]`.
            number: number of picks of each feature, int64 `[d_sae_local]`.
        """
        bounds = torch.where(number >= self._quotas, _SAFETY * smallest, 0.0)
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
