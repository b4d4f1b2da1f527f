"""What an exact step must at least do: every score once, in bf16, and Adam over both matrices with dense gradients.

It trains nothing. A step that never writes the gradients of inactive rows could do with less.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.benchmarks.peers.contestant import Data
from tests.benchmarks.peers.problem import Size

__all__ = ["build"]

_CHUNK = 2048


class _Floor:
    version, warmup = torch.__version__, 1

    def __init__(self, size: Size, _: Data) -> None:
        shape = (size.d_sae, size.d_in)
        self._rows = torch.randn(shape, generator=torch.Generator().manual_seed(0)).bfloat16()
        # Filled, not zeroed: pages of zeros that nobody has written to would cost nothing to read.
        self._parameters, self._gradients, self._means, self._squares = (
            [torch.full(shape, 1e-3) for _ in range(2)] for _ in range(4)
        )
        self._steps = [torch.zeros(()) for _ in range(2)]
        self._scores = torch.empty(min(_CHUNK, size.d_sae), size.tokens, dtype=torch.bfloat16)
        self._rate = size.rate

    @torch.no_grad()
    def step(self, x: Tensor) -> float:
        """Does the product and the update."""
        low = x.bfloat16().t()
        for first in range(0, self._rows.shape[0], _CHUNK):
            rows = self._rows[first : first + _CHUNK]
            torch.mm(rows, low, out=self._scores[: rows.shape[0]])
        torch._foreach_add_(self._steps, 1)
        torch._fused_adam_(
            self._parameters,
            self._gradients,
            self._means,
            self._squares,
            [],
            self._steps,
            lr=self._rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )
        return math.nan


def build(size: Size, data: Data) -> _Floor:
    """Returns the two operations."""
    return _Floor(size, data)
