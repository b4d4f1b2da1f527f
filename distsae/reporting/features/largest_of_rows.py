"""The largest values of each row of a matrix, exactly and in one order: ties go to the smallest column."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["largest_of_rows"]


def largest_of_rows(values: Tensor, most: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns columns and values of the `most` largest values of each row, the largest first.

    `torch.topk` alone would leave open which of several equal values it takes.

    Args:
        values: finite or minus infinity, fp32 `[rows, columns]`; the latter is never returned.
        most: values wanted; fewer if there are not so many.

    Returns:
        Columns, int64 `[rows, most]`, -1 where there is no value; and values, fp32 `[rows, most]`, 0 there.
    """
    rows, columns = values.shape
    column = np.full((rows, most), -1, np.int64)
    value = np.zeros((rows, most), np.float32)
    count = min(most, columns)
    if count and rows:
        cut = values.topk(count, dim=1).values[:, -1:]
        found = (values >= cut) & (values > -torch.inf)
        at = found.nonzero().cpu().numpy()  # by row, then column
        of_found = values[found].cpu().numpy()
        order = np.lexsort((at[:, 1], -of_found.astype(np.float64), at[:, 0]))
        row = at[order, 0]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        chosen = rank < most
        column[row[chosen], rank[chosen]] = at[order[chosen], 1]
        value[row[chosen], rank[chosen]] = of_found[order[chosen]]
    return column, value
