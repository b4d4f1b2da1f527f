"""Pareto fronts: the cells that no other cell beats in both of two figures."""

from __future__ import annotations

from collections.abc import Sequence

from distsae.reporting.study.measures import DEAD, FVU, L0, LOSS_RECOVERED, Measure
from distsae.reporting.study.results import CellResult

__all__ = ["FRONTS", "front_of", "on_front"]

FRONTS: tuple[Measure, ...] = (FVU, LOSS_RECOVERED, DEAD)
"""Figures that have a front against L0."""


def on_front(costs: Sequence[float], losses: Sequence[float]) -> list[bool]:
    """Returns for each point whether no other point is at least as good in both values and better in one.

    Args:
        costs: first value of each point, smaller is better.
        losses: second value of each point, smaller is better.
    """
    points = list(zip(costs, losses, strict=True))
    return [
        not any(cost <= own[0] and loss <= own[1] and (cost, loss) != own for cost, loss in points) for own in points
    ]


def front_of(cells: Sequence[CellResult], measure: Measure) -> list[CellResult]:
    """Returns the cells on the front of a figure against L0, by ascending L0; those without figures are left out.

    Args:
        cells: cells of one width.
        measure: a figure that has a better direction.
    """
    sign = 1.0 if measure.better == "lower" else -1.0
    found = []
    for cell in cells:
        cost, loss = L0.of(cell), measure.of(cell)
        if cost is not None and loss is not None:
            found.append((cost.mean, sign * loss.mean, cell))
    marks = on_front([cost for cost, _, _ in found], [loss for _, loss, _ in found])
    front = [(cost, cell) for (cost, _, cell), mark in zip(found, marks, strict=True) if mark]
    return [cell for _, cell in sorted(front, key=lambda entry: entry[0])]
