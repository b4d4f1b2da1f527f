"""Selections on a pretended GPU, where candidates get a fixed number of places."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from distsae.allocation import Matches, Selector
from tests.allocation.samples import run
from tests.pretended_cuda import CUDA

__all__ = ["run_there"]


def run_there(selectors: Sequence[Selector], batch: Tensor, chunk: int) -> list[Matches]:
    """Selects from one batch on the pretended GPU, and returns matches on the CPU."""
    return [
        Matches(found.token.cpu(), found.feature.cpu(), found.score.cpu())
        for found in run(selectors, batch.to(CUDA), chunk)
    ]
