"""Which learning rate of a cell is the best, and whether the list of rates was wide enough to say so."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from distsae.recipes.study.config import Rate

__all__ = ["Edge", "best_rate", "edge_of"]

Edge = Literal["lowest", "highest"]


def best_rate(errors: Mapping[Rate, float | None]) -> Rate | None:
    """Returns the rate with the smallest error, of equal ones the first; None if no rate has one.

    Args:
        errors: error that each rate led to; None or NaN if its member diverged or could not be measured.
    """
    measured = {rate: error for rate, error in errors.items() if error is not None and math.isfinite(error)}
    ordered = sorted(measured, key=lambda rate: measured[rate])
    return ordered[0] if ordered else None


def edge_of(rates: Sequence[Rate], best: Rate, size: Callable[[Rate], float | None]) -> Edge | None:
    """Returns the end of the list at which the best rate is; None if rates on both sides of it were tried.

    Rates that diverged were tried as well. A single rate is at no edge, for there was nothing to choose.

    Args:
        rates: rates that were tried.
        best: the best of them.
        size: function that returns a rate as a number; None if it is not known, as for `auto` of a peer.
    """
    sizes = [value for rate in rates if (value := size(rate)) is not None]
    own = size(best)
    if own is None or len(set(sizes)) < 2:
        return None
    if own == min(sizes):
        return "lowest"
    return "highest" if own == max(sizes) else None
