"""A batch in which some rows are left out, and how the data ranks share it."""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.parallel import Mesh
from tests.training.samples import D_IN, TOKENS, activations

LEFT_OUT = torch.tensor([0, 1, 7, 30, 51, 77])  # more of them in the first half than in the second
SHAPES = ((1, 1), (1, 2), (2, 1), (2, 2), (1, 3))


def batch() -> Tensor:
    """Returns the rows of `activations(0)`, among them rows of a thousand times their norm."""
    x = torch.empty(TOKENS + len(LEFT_OUT), D_IN, dtype=torch.float64)
    x[LEFT_OUT] = 1000 * activations(1)[: len(LEFT_OUT)]
    x[kept()] = activations(0)
    return x


def kept() -> Tensor:
    kept = torch.ones(TOKENS + len(LEFT_OUT), dtype=torch.bool)
    kept[LEFT_OUT] = False
    return kept.nonzero().squeeze(1)


def share_of(mesh: Mesh) -> tuple[Tensor, Tensor, int]:
    """Returns this data rank's rows, the indices of those that are left out, and the global index of the first row."""
    x = batch()
    rows = len(x) // mesh.data.size
    first = mesh.data.rank * rows
    here = LEFT_OUT[(first <= LEFT_OUT) & (first + rows > LEFT_OUT)] - first
    return x[first : first + rows], here, first
