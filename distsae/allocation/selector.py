"""Selection from a stream of encoder chunks, on any mesh: what the three selectors have in common.

The encoder offers its scores a few features at a time; a selector keeps what may still be selected, and finds its
matches together with the other ranks at the end. The matrix of tokens x features never exists.

    selector.start(placement, tokens)
    for first_feature, scores in shard.encode_chunks(x):
        selector.offer(first_feature, scores)
    matches = selector.resolve()          # None: the lower bound was too high, offer everything again
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from distsae.allocation.matches import Matches
from distsae.allocation.scores import ExactScores, Scores
from distsae.collective import Collective, Solo
from distsae.errors import NonFiniteScores

__all__ = ["Chunks", "Placement", "Selector", "refuse_non_finite", "select"]

Chunks = Callable[[], Iterable[tuple[int, Scores | Tensor]]]
"""Gives a batch's blocks of scores, from its first feature on; a tensor is taken as exact pre-activations."""


@dataclass(frozen=True)
class Placement:
    """Where this rank's scores lie in the global batch's matrix of tokens x features.

    Args:
        feature: ranks that hold other features of the same tokens.
        data: ranks that hold the same features of other tokens.
        world: all ranks.
        first_feature: global index of this rank's first feature.
        first_token: global index of this rank's first token.
        d_sae: features over all ranks.
    """

    feature: Collective
    data: Collective
    world: Collective
    first_feature: int
    first_token: int
    d_sae: int

    @staticmethod
    def solo(d_sae: int) -> Placement:
        """Returns the place of a single process."""
        return Placement(Solo(), Solo(), Solo(), 0, 0, d_sae)


class Selector(Protocol):
    """One allocation rule, applied to a stream of score chunks."""

    def start(self, placement: Placement, tokens: int) -> None:
        """Starts a batch of `tokens` local tokens."""
        ...

    def offer(self, first_feature: int, scores: Scores) -> None:
        """Takes the scores of local features `first_feature, ...`, compared in fp32.

        Blocks come in ascending order of features, and are overwritten after the call.
        """
        ...

    def resolve(self) -> Matches | None:
        """Returns this rank's matches, by feature then token in local indices; None asks for the chunks again.

        Collective: every rank calls it, and every rank gets None or none does.

        Raises:
            NonFiniteScores: on every rank, if any rank was offered a score that is not finite.
        """
        ...


def select(selectors: Sequence[Selector], chunks: Chunks, placement: Placement, tokens: int) -> list[Matches]:
    """Runs `selectors` over one pass of `chunks()`, again if a lower bound proves too high.

    Returns:
        This rank's matches, one `Matches` a selector.
    """
    while True:
        for selector in selectors:
            selector.start(placement, tokens)
        for first_feature, block in chunks():
            scores = ExactScores(block) if isinstance(block, Tensor) else block
            for selector in selectors:
                selector.offer(first_feature, scores)
        resolved = [selector.resolve() for selector in selectors]
        found = [matches for matches in resolved if matches is not None]
        if len(found) == len(resolved):
            return found


def refuse_non_finite(counts: Tensor) -> None:
    """Raises if any rank counted scores that are not finite.

    Args:
        counts: one count a rank of `placement.world`, in rank order, int64 `[ranks]`; the same on all ranks.
    """
    if bool((counts > 0).any()):
        rank = int(torch.argmax((counts > 0).long()))
        raise NonFiniteScores(f"{int(counts.sum())} scores are not finite, the first of them on rank {rank}")
