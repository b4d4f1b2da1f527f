"""BatchTopK as a page of PyTorch: six dense products of tokens x features by autograd, and torch's default Adam."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.benchmarks.peers.contestant import Data
from tests.benchmarks.peers.problem import Size

__all__ = ["build", "keep_largest"]


def keep_largest(scores: Tensor, budget: int) -> Tensor:
    """Returns `scores` `[tokens, features]` with all but the `budget` largest positive ones set to 0."""
    flat = scores.relu().flatten()
    best = flat.topk(budget, sorted=False)
    return torch.zeros_like(flat).scatter(0, best.indices, best.values).reshape(scores.shape)


class _Dense:
    version, warmup = torch.__version__, 1

    def __init__(self, size: Size, data: Data) -> None:
        self._budget, self._variance = size.k * size.tokens, data.variance
        rows = torch.randn(size.d_sae, size.d_in, generator=torch.Generator().manual_seed(0))
        rows /= torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        self._W_enc, self._W_dec = nn.Parameter(rows.clone()), nn.Parameter(rows)
        self._b_enc, self._b_dec = nn.Parameter(torch.zeros(size.d_sae)), nn.Parameter(data.mean.clone())
        self._adam = torch.optim.Adam([self._W_enc, self._W_dec, self._b_enc, self._b_dec], lr=size.rate)

    def step(self, x: Tensor) -> float:
        """Does one step."""
        acts = keep_largest((x - self._b_dec) @ self._W_enc.T + self._b_enc, self._budget)
        loss = (acts @ self._W_dec + self._b_dec - x).square().sum(1).mean()
        loss.backward()
        self._adam.step()
        self._adam.zero_grad()
        with torch.no_grad():
            self._W_dec /= torch.linalg.vector_norm(self._W_dec, dim=1, keepdim=True)
        return float(loss.detach()) / self._variance


def build(size: Size, data: Data) -> _Dense:
    """Returns the trainer."""
    return _Dense(size, data)
