"""The candidates of each feature in a fixed number of places, for a device that the CPU need not wait for.

In the chunks, a feature is searched with the lower bound that its last cut left. Features that have no bound, or fewer
candidates than their quota, are searched again together when all chunks have been seen: the exact scores of the pairs
with the largest upper bounds make a bound that is certain to be low enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.allocation.matches import Matches
from distsae.allocation.roomy_candidates import PLACES_PER_MATCH, Places, RoomyCandidates
from distsae.allocation.scores import EMPTY, Scores, feature_and_token
from distsae.allocation.segments import SegmentOrder, counted, true_indices_within

__all__ = ["FeaturePlaces", "FeatureRoom", "RoomyFeatures"]

_FEW = 1024
"""So many features may always be searched again, whatever the size of a chunk, and so many matches be sought."""


@dataclass(frozen=True)
class FeatureRoom:
    """The numbers of places of a pass.

    Args:
        chunk: places for the candidates of a chunk.
        features: places for the features that are searched again.
        quota: largest quota that such a feature may have.
        again: places for the candidates of such features.
    """

    chunk: int
    features: int
    quota: int
    again: int


class FeaturePlaces:
    """The numbers of places, learnt from batch to batch."""

    def __init__(self) -> None:
        self._chunk = Places()
        self._features = Places()
        self._quota = Places()
        self._again = Places()

    def room(self, features: int, most: int, tokens: int, budget: int) -> FeatureRoom | None:
        """Returns the numbers for the next pass; None if it must do without, because too many would be needed.

        Args:
            features: number of features on this rank.
            most: most features that may be searched again.
            tokens: number of tokens on this rank.
            budget: number of matches of a batch.
        """
        again = min(self._features.number, features)
        quota = min(self._quota.number, tokens)
        if not min(self._chunk.number, again, quota, self._again.number):
            return None
        if again > max(most, _FEW) or again * quota > PLACES_PER_MATCH * max(budget, _FEW):
            return None
        return FeatureRoom(self._chunk.number, again, quota, self._again.number)

    def learn(self, found: list[int], lacking: int, quota: int) -> None:
        """Takes over what a pass without such places found.

        Args:
            found: candidates of each chunk.
            lacking: features that were searched again.
            quota: largest quota of such a feature.
        """
        for places, filled in (
            (self._chunk, max(found, default=0)),
            (self._features, lacking),
            (self._quota, quota),
            (self._again, max(found, default=0) // 4),
        ):
            places.learn(filled)

    def fitted(self, room: FeatureRoom, told: list[int], chunks: int, budget: int) -> bool:
        """Takes over how many places a pass filled, and returns whether they sufficed.

        Args:
            room: the numbers of places of the pass.
            told: what `RoomyFeatures.tally` returned last.
            chunks: number of chunks of the pass.
            budget: number of matches of a batch.
        """
        lacking, quota, again, chunk = told
        if chunk >= room.chunk:
            self._chunk.grow(chunks, budget)
            return False
        self._chunk.learn(chunk)
        self._features.learn(lacking)
        self._quota.learn(quota)
        if lacking > room.features or quota > room.quota:
            return False
        if again >= room.again:
            self._again.grow(1, budget)
            return False
        self._again.learn(again)
        return True


class RoomyFeatures:
    """A pass over a batch that keeps the `quotas[j]` largest positive scores of each feature `j` of this rank.

    Args:
        quotas: quota of each local feature, int64 `[d_sae_local]`.
        bounds: lower bound that the last cut of each feature left, 0 for none, fp32 `[d_sae_local]`.
        tokens: number of tokens on this rank.
        room: numbers of places.
    """

    def __init__(self, quotas: Tensor, bounds: Tensor, tokens: int, room: FeatureRoom) -> None:
        self._quotas = quotas
        self._tokens = tokens
        self._room = room
        self._held = RoomyCandidates(tokens)
        self._bounds = torch.where((quotas > 0) & (bounds > 0), bounds, torch.inf)[:, None]
        self._cutoffs: Tensor | None = None

    @property
    def chunks(self) -> int:
        """Number of chunks so far."""
        return len(self._held.places)

    def offer(self, first_feature: int, scores: Scores) -> None:
        """Keeps the candidates of a chunk that reach the bounds of the features."""
        if self._cutoffs is None:
            self._cutoffs = scores.cutoff(self._bounds)
        of_chunk = slice(first_feature, first_feature + scores.shape[0])
        cutoffs, bounds = self._cutoffs[of_chunk], self._bounds[of_chunk]
        self._held.collect(first_feature, scores, cutoffs, bounds, self._room.chunk)

    def tally(self, of_features: Callable[[Tensor], Scores]) -> tuple[Tensor, Tensor, Tensor]:
        """Searches features that lack candidates again, and picks the largest candidates of each.

        Args:
            of_features: as `Scores.of_features`.

        Returns:
            The number of picks, int64 `[1]`; whether places did not suffice, bool `[1]`; and the number of features
            that were searched again, the largest quota of these, the number of places that their candidates filled, and
            the most places that a chunk filled, int64 `[4]`.
        """
        features = self._quotas.numel()
        score, key = self._held.joined()
        quotas = torch.cat([self._quotas, self._quotas.new_zeros(1)])
        feature = (key // self._tokens).masked_fill_(score == 0, features)  # of empty places: a segment without a quota
        lacking = counted(feature, features + 1) < quotas
        numbers = [lacking.sum(), (quotas * lacking).amax().clamp_(max=self._tokens)]
        more_score, more_key, more_feature = self._searched_again(lacking[:-1], of_features)
        feature.masked_fill_(lacking[feature], features)  # all that they have was found again
        filled = (more_key < EMPTY).sum()
        feature = torch.cat([feature, more_feature])
        self._joined = torch.cat([score, more_score]), torch.cat([key, more_key])
        self._ordered = SegmentOrder(feature, self._joined[0], features + 1)
        self._picked = self._ordered.rank() < quotas[self._ordered.segment()]
        numbers += [filled, self._held.filled().amax()]
        told = torch.stack(numbers)
        room = self._room
        lacks = (told[0] > room.features) | (told[1] > room.quota) | (told[2] >= room.again) | (told[3] >= room.chunk)
        return self._picked.sum()[None], lacks[None], told

    def cuts(self) -> tuple[Tensor, Tensor]:
        """Returns the smallest pick of each feature, fp32 `[d_sae_local]`, infinite without one; and their numbers."""
        features = self._quotas.numel()
        held = self._ordered.sizes()[:features]
        number = torch.minimum(held, self._quotas)
        smallest = self._ordered.smallest_of_first(torch.cat([number, number.new_zeros(1)]))[:features]
        return torch.where(number > 0, smallest, torch.inf), number

    def matches(self, number: int) -> Matches:
        """Returns the picks, whose number `tally` returned, sorted by feature, then token."""
        score, key = self._joined
        picks = self._ordered.order[true_indices_within(self._picked, number)]
        key, order = key[picks].sort()
        feature, token = feature_and_token(key, self._tokens)
        return Matches(token, feature, score[picks[order]])

    def _searched_again(
        self, lacking: Tensor, of_features: Callable[[Tensor], Scores]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns all candidates of the features that are marked, as far as places suffice.

        Returns:
            Scores, 0 in empty places; keys `feature * tokens + token`, ascending, `EMPTY` in places that were not
            taken; and features, one too many in empty places.
        """
        features = self._quotas.numel()
        found = true_indices_within(lacking, self._room.features)
        rows = found.clamp(max=features - 1)
        quotas = self._quotas[rows].masked_fill_(found == features, 0)
        scores = of_features(rows)
        least = scores.leading_of_features(quotas, self._room.quota)[:, None]
        flat, score = scores.within(scores.cutoff(least), least, self._room.again)
        row, token = feature_and_token(flat.clamp(max=rows.numel() * self._tokens - 1), self._tokens)
        feature = rows[row]
        key = (feature * self._tokens + token).masked_fill_(flat == EMPTY, EMPTY)
        return score, key, feature.masked_fill_(score == 0, features)
