"""What the selections of a step cost: passes over the encoder, and what ranks exchange."""

from __future__ import annotations

from dataclasses import dataclass

from distsae.allocation import Matches, Placement, Scores, Selector
from distsae.parallel import GroupCollective, Mesh
from distsae.training.step.selectors import Selectors

__all__ = ["SelectionCost", "watched"]


@dataclass
class SelectionCost:
    """The cost of one batch's selections on this rank.

    Args:
        passes: how often the batch was encoded; more than once if a lower bound proved too high.
        collectives: torch's collectives.
        bytes_received: bytes that reached this rank in them.
    """

    passes: int = 0
    collectives: int = 0
    bytes_received: int = 0


def watched(selectors: Selectors, mesh: Mesh, cost: SelectionCost) -> Selectors:
    """Returns selectors that select the same and add what it costs to `cost`.

    Args:
        selectors: selectors that share their passes.
        mesh: the groups in which they exchange; within one process nothing is exchanged.
        cost: counts the batch or batches that follow.
    """
    groups = [group for group in (mesh.data, mesh.feature, mesh.world) if isinstance(group, GroupCollective)]
    return selectors.wrapped(
        lambda selector: _Watched(selector, groups, cost, counts_passes=selector is selectors.main)
    )


class _Watched:
    def __init__(
        self, selector: Selector, groups: list[GroupCollective], cost: SelectionCost, *, counts_passes: bool
    ) -> None:
        self._selector = selector
        self._groups = groups
        self._cost = cost
        self._counts_passes = counts_passes

    def start(self, placement: Placement, tokens: int) -> None:
        self._cost.passes += self._counts_passes
        self._selector.start(placement, tokens)

    def offer(self, first_feature: int, scores: Scores) -> None:
        self._selector.offer(first_feature, scores)

    def resolve(self) -> Matches | None:
        before = self._spent()
        found = self._selector.resolve()
        after = self._spent()
        self._cost.collectives += after[0] - before[0]
        self._cost.bytes_received += after[1] - before[1]
        return found

    def _spent(self) -> tuple[int, int]:
        return sum(group.collectives for group in self._groups), sum(group.bytes_received for group in self._groups)
