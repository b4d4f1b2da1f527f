"""Pareto fronts: the cells that no other cell beats in both of two figures.

Frozen rules of one `k` differ a little in L0 by chance, so values of L0 that are close count as equal: otherwise the
worst method would be on the front for a hundredth of a match.
"""

from __future__ import annotations

from collections.abc import Sequence

from distsae.reporting.study.measures import DEAD, FVU, L0, LOSS_RECOVERED, StudyMeasure
from distsae.reporting.study.results import CellResult

__all__ = ["FRONTS", "front_of", "on_front"]

_EQUAL_L0 = 0.03
"""Share by which two values of L0 may differ and still count as equal."""

FRONTS: tuple[StudyMeasure, ...] = (FVU, LOSS_RECOVERED, DEAD)
"""Figures that have a front against L0."""


def on_front(costs: Sequence[float], losses: Sequence[float], tolerance: float = 0.0) -> list[bool]:
    """Returns for each point whether no other point is at least as good in both values and better in one.

    Args:
        costs: first value of each point, positive, smaller is better.
        losses: second value of each point, smaller is better.
        tolerance: share by which two costs may differ and still count as equal.
    """
    points = list(zip(costs, losses, strict=True))

    def beats(other: tuple[float, float], own: tuple[float, float]) -> bool:
        cheaper = other[0] * (1 + tolerance) < own[0]
        return other[0] <= own[0] * (1 + tolerance) and other[1] <= own[1] and (cheaper or other[1] < own[1])

    return [not any(beats(other, own) for other in points) for own in points]


def front_of(cells: Sequence[CellResult], measure: StudyMeasure) -> list[CellResult]:
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
    marks = on_front([cost for cost, _, _ in found], [loss for _, loss, _ in found], _EQUAL_L0)
    front = [(cost, cell) for (cost, _, cell), mark in zip(found, marks, strict=True) if mark]
    return [cell for _, cell in sorted(front, key=lambda entry: entry[0])]
