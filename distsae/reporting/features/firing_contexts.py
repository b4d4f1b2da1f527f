"""The contexts in which features fire, and the rules by which some of them are kept.

A feature keeps the contexts with its largest activations, and a uniform sample of all contexts in which it fires. Both
rules rank contexts by themselves, so that what is kept of two parts together is what would have been kept of both at
once, in whatever order and by whatever process they were read:

- top contexts: by their largest activation; ties by the number of the context in its corpus, then by its place in the
  pass (contexts of merged stores may share a number);
- sampled contexts: by a hash of feature and context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

__all__ = ["FiringContexts", "sample_order"]


@dataclass(frozen=True, kw_only=True)
class FiringContexts:
    """Pairs of a feature and a context in which it fires, by feature, then context; and the activations in each.

    Args:
        feature: feature of each pair, int64 `[pairs]`.
        context: number of the context in the pass, int64 `[pairs]`.
        context_id: number of the context in its corpus, int64 `[pairs]`.
        peak: largest activation in the context, fp32 `[pairs]`.
        position: first position with that activation, int64 `[pairs]`.
        document_id: document of that position, int64 `[pairs]`.
        start: index of the first activation of each pair, and the end of the last one, int64 `[pairs + 1]`.
        act_position: positions of all activations, ascending in each pair, int64 `[matches]`.
        act: activations, fp32 `[matches]`.
    """

    feature: NDArray[np.int64]
    context: NDArray[np.int64]
    context_id: NDArray[np.int64]
    peak: NDArray[np.float32]
    position: NDArray[np.int64]
    document_id: NDArray[np.int64]
    start: NDArray[np.int64]
    act_position: NDArray[np.int64]
    act: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.feature)

    @classmethod
    def of_matches(
        cls,
        feature: NDArray[np.int64],
        context: NDArray[np.int64],
        position: NDArray[np.int64],
        score: NDArray[np.float32],
        context_id: NDArray[np.int64],
        document_id: NDArray[np.int64],
    ) -> FiringContexts:
        """Groups matches, sorted by feature, context and position; all arrays are `[matches]`."""
        new = np.ones(len(feature), np.bool_)
        new[1:] = (feature[1:] != feature[:-1]) | (context[1:] != context[:-1])
        first = np.flatnonzero(new)
        peak = np.maximum.reduceat(score, first) if len(first) else score[:0]
        pair = np.cumsum(new) - 1
        at_peak = np.flatnonzero(score == peak[pair])
        at_peak = at_peak[np.unique(pair[at_peak], return_index=True)[1]]
        return cls(
            feature=feature[first],
            context=context[first],
            context_id=context_id[first],
            peak=peak,
            position=position[at_peak],
            document_id=document_id[at_peak],
            start=np.append(first, len(feature)),
            act_position=position,
            act=score,
        )

    @classmethod
    def joined(cls, parts: Sequence[FiringContexts]) -> FiringContexts:
        """Returns the pairs of several parts of a pass, of which each context is in one."""
        starts = np.cumsum([0, *(len(part.act) for part in parts)])
        arrays = {field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)}
        arrays["start"] = np.concatenate(
            [*(part.start[:-1] + start for part, start in zip(parts, starts[:-1], strict=True)), starts[-1:]]
        )
        both = cls(**arrays)
        return both.picked(np.lexsort((both.context, both.feature)))

    def picked(self, index: NDArray[np.int64]) -> FiringContexts:
        """Returns some pairs, in the order of `index`, int64 `[n]`."""
        lengths = np.diff(self.start)[index]
        start = np.append(0, np.cumsum(lengths))
        acts = np.arange(start[-1]) + np.repeat(self.start[index] - start[:-1], lengths)
        return FiringContexts(
            feature=self.feature[index],
            context=self.context[index],
            context_id=self.context_id[index],
            peak=self.peak[index],
            position=self.position[index],
            document_id=self.document_id[index],
            start=start,
            act_position=self.act_position[acts],
            act=self.act[acts],
        )

    def top(self, most: int) -> NDArray[np.int64]:
        """Returns the indices of the top contexts of each feature, at most `most`, by feature, the strongest first."""
        order = np.lexsort((self.context, self.context_id, -self.peak.astype(np.float64), self.feature))
        return _first_of_each(order, self.feature, most)

    def sample(self, most: int) -> NDArray[np.int64]:
        """Returns the indices of the sampled contexts of each feature, at most `most`, by feature, in random order."""
        order = np.lexsort((self.context, sample_order(self.feature, self.context_id), self.feature))
        return _first_of_each(order, self.feature, most)


def sample_order(feature: NDArray[np.int64], context_id: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Returns a hash of each feature and context, uint64: the finaliser of splitmix64 (Steele et al. 2014), twice."""
    with np.errstate(over="ignore"):
        return _mixed(_mixed(feature.astype(np.uint64)) + context_id.astype(np.uint64))


def _mixed(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _first_of_each(order: NDArray[np.int64], group: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Returns the first `most` indices of each group of an order that keeps groups together."""
    ordered = group[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    first = np.flatnonzero(new)
    rank = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    return order[rank < most]
