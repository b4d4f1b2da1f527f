"""The cost of a step's selections: passes over the encoder, and the traffic between ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from distsae.allocation import Matches, Placement, Scores, Selector
from distsae.parallel import GroupCollective, Mesh
from distsae.training.step.selectors import Selectors

__all__ = ["SelectionCost", "watched"]

_T = TypeVar("_T")


@dataclass
class SelectionCost:
    """The cost of one step's selections on this rank.

    Args:
        passes: passes over the encoder: one for each micro-batch, and another one if a lower bound proved too high.
        collectives: number of torch collectives.
        bytes_received: bytes that this rank received in them.
    """

    passes: int = 0
    collectives: int = 0
    bytes_received: int = 0


def watched(selectors: Selectors, mesh: Mesh, cost: SelectionCost) -> Selectors:
    """Returns selectors that select the same, and add the cost of each selection to `cost`.

    Args:
        selectors: selectors of a step.
        mesh: the mesh, as this rank sees it; traffic is counted in its groups.
        cost: cost to add to.
    """
    groups = [group for group in (mesh.data, mesh.feature, mesh.world) if isinstance(group, GroupCollective)]
    return selectors.wrapped(
        lambda selector: _Watched(selector, groups, cost, counts_passes=selector is selectors.main)
    )


class _Watched:
    """A selector whose cost is counted.

    Args:
        selector: selector that selects.
        groups: groups whose traffic is counted.
        cost: cost to add to.
        counts_passes: whether this selector counts the passes, which all selectors of a step share.
    """

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

    def tally(self) -> Tensor | None:
        return self._counted(self._selector.tally)

    def resolve(self, told: Tensor) -> Matches | None:
        return self._counted(lambda: self._selector.resolve(told))

    def _counted(self, act: Callable[[], _T]) -> _T:
        """Returns what `act` does, and adds its traffic."""
        before = self._traffic()
        found = act()
        after = self._traffic()
        self._cost.collectives += after[0] - before[0]
        self._cost.bytes_received += after[1] - before[1]
        return found

    def _traffic(self) -> tuple[int, int]:
        """Returns the collectives and the bytes received of all groups so far."""
        return sum(group.collectives for group in self._groups), sum(group.bytes_received for group in self._groups)
