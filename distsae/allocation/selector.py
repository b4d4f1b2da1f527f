"""Selection from a stream of encoder chunks, on any mesh: what the selectors have in common.

The encoder offers its scores a few features at a time. A selector keeps the candidates, which may still be selected,
and at the end finds its matches together with the other ranks. The matrix of tokens x features never exists.

    selector.start(placement, tokens)
    for first_feature, scores in shard.encode_chunks(x - shard.b_dec):
        selector.offer(first_feature, scores)
    (matches,) = settled([selector])      # None: the lower bound was too high, offer all chunks again

On a GPU the CPU waits for the device once in such a pass, however many chunks and selectors there are: all of them say
by `tally` what they need to know on the CPU, and one copy brings it there. Only the first batches, in which nothing is
known yet, wait in every chunk.

From one batch to the next a selector forecasts: how low the next cut may lie, or how long the next messages will be. A
forecast saves work and changes no selection. The selectors of a training run give it out as plain numbers by
`forecast()`, and a resumed run hands them back by `restore_forecast()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol

import torch
from torch import Tensor

from distsae.allocation.matches import Matches
from distsae.allocation.scores import ExactScores, Scores
from distsae.collective import Collective, Solo
from distsae.errors import NonFiniteScores

__all__ = ["Chunks", "Placement", "Selector", "TrainingSelector", "as_count", "refuse_non_finite", "select", "settled"]

Chunks = Callable[[], Iterable[tuple[int, Scores | Tensor]]]
"""Starts a pass over a batch: yields the first local feature and the scores of each chunk, in ascending order. A tensor
stands for exact pre-activations, `[features, tokens]`."""


@dataclass(frozen=True)
class Placement:
    """Where this rank's scores lie in the global batch's matrix of tokens x features, and the ranks that hold the rest.

    Args:
        feature: ranks with other features of the same tokens.
        data: ranks with other tokens of the same features.
        world: all ranks.
        first_feature: global index of this rank's first feature.
        first_token: global index of this rank's first token.
        d_sae: number of features over all ranks.
        left_out: number of tokens of the global batch that have no positive score and no share of the budget.
    """

    feature: Collective
    data: Collective
    world: Collective
    first_feature: int
    first_token: int
    d_sae: int
    left_out: int = 0

    @staticmethod
    def solo(d_sae: int) -> Placement:
        """Returns the placement of a single process, which holds the whole matrix."""
        return Placement(Solo(), Solo(), Solo(), 0, 0, d_sae)

    def sharing(self, tokens: int) -> int:
        """Returns the number of tokens of the global batch that share the budget.

        Args:
            tokens: number of tokens on each data rank.
        """
        return tokens * self.data.size - self.left_out


class Selector(Protocol):
    """One allocation rule, applied to a stream of score chunks: `start`, `offer` for each, `tally`, `resolve`."""

    def start(self, placement: Placement, tokens: int) -> None:
        """Starts a pass over a batch and drops the candidates of the pass before.

        Args:
            placement: position of this rank's scores in the global batch.
            tokens: number of tokens on this rank, equal on all ranks.
        """
        ...

    def offer(self, first_feature: int, scores: Scores) -> None:
        """Keeps the candidates of a chunk. Not collective.

        Args:
            first_feature: local index of the first feature of the chunk. Chunks come in ascending order.
            scores: scores of the chunk, compared in fp32; valid only during the call.
        """
        ...

    def tally(self) -> Tensor | None:
        """Begins to settle with the other ranks which candidates are selected; collective.

        Returns:
            Numbers that `resolve` needs on the CPU, int64 `[any]`, on the scores' device; None if it needs none.
        """
        ...

    def resolve(self, told: Tensor) -> Matches | None:
        """Settles with the other ranks which candidates are selected; collective.

        Args:
            told: what `tally` returned, on the CPU; empty if that was None.

        Returns:
            This rank's matches, sorted by feature, then token, in local indices. None, on all ranks alike, if a lower
            bound was too high: the batch must be started and offered again.

        Raises:
            NonFiniteScores: on every rank, if any rank was offered a score that is not finite.
        """
        ...


class TrainingSelector(Selector, Protocol):
    """The rule that a run trains with: a selector with a budget, and with a forecast that a checkpoint keeps."""

    @property
    def shortfall(self) -> int:
        """Number of matches by which the last batch missed its budget, over all ranks."""
        ...

    def set_budget(self, k: float) -> float:
        """Sets the mean matches per token of the next batches.

        Returns:
            The mean that is used: Token Choice rounds `k`; Feature Choice returns it and spends its quotas.
        """
        ...

    def forecast(self) -> dict[str, float | None]:
        """Returns what is expected of the next batch; the same on all ranks that exchange candidates."""
        ...

    def restore_forecast(self, forecast: Mapping[str, float | None]) -> None:
        """Takes over the forecast of a selector of this rule, from any mesh; it saves work and changes no selection."""
        ...


def select(selectors: Sequence[Selector], chunks: Chunks, placement: Placement, tokens: int) -> list[Matches]:
    """Selects from one batch by several rules; collective.

    All selectors share a pass over the chunks, and all take part in another one if any of them needs it.

    Args:
        selectors: the rules.
        chunks: starts a pass over this rank's scores of the batch.
        placement: position of this rank's scores in the global batch.
        tokens: number of tokens on this rank.

    Returns:
        This rank's matches of each selector.
    """
    while True:
        for selector in selectors:
            selector.start(placement, tokens)
        doubt = None
        for first_feature, chunk in chunks():
            scores = ExactScores(chunk) if isinstance(chunk, Tensor) else chunk
            for selector in selectors:
                selector.offer(first_feature, scores)
            doubt = scores.doubt
        resolved = settled(selectors, placement.world, doubt)
        selected = [matches for matches in resolved if matches is not None]
        if len(selected) == len(resolved):
            return selected


def settled(
    selectors: Sequence[Selector], world: Collective | None = None, doubt: Tensor | None = None
) -> list[Matches | None]:
    """Resolves selectors to which a batch has been offered; collective.

    Args:
        selectors: the selectors.
        world: all ranks.
        doubt: whether this rank's scores may be wrong, bool `[]`; None, on all ranks alike, if they are not.

    Returns:
        This rank's matches of each selector, or None, on all ranks alike, where the batch must be offered again.
    """
    tallies = [selector.tally() for selector in selectors]
    parts = [tally for tally in tallies if tally is not None]
    if doubt is not None:
        parts.append((world or Solo()).sum(doubt.long().view(1)))
    told = torch.cat(parts).cpu() if parts else torch.zeros(0, dtype=torch.long)  # where the CPU waits for the device
    if doubt is not None and told[-1]:
        return [None] * len(selectors)
    ends = list(accumulate((0 if tally is None else tally.numel() for tally in tallies), initial=0))
    return [
        selector.resolve(told[first:last]) for selector, (first, last) in zip(selectors, pairwise(ends), strict=True)
    ]


def as_count(number: int | Tensor, device: torch.device) -> Tensor:
    """Returns a whole number as a tensor on a device, int64 `[1]`, without waiting for the device."""
    return number.long().view(1) if isinstance(number, Tensor) else torch.full((1,), number, device=device)


def refuse_non_finite(counts: Tensor) -> None:
    """Raises if any rank counted scores that are not finite.

    Args:
        counts: number of such scores on each rank of `placement.world`, in rank order, int64 `[ranks]`; the same on
            all ranks.
    """
    if bool((counts > 0).any()):
        rank = int(torch.argmax((counts > 0).long()))
        raise NonFiniteScores(f"{int(counts.sum())} scores are not finite, the first of them on rank {rank}")
