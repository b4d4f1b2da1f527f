"""Rows with norms of every kind that a store may meet."""

from __future__ import annotations

import torch
from torch import Tensor

KINDS = ("random", "skewed", "tied", "zero", "half zero", "outliers", "huge")
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def sample(kind: str, rows: int, dtype: torch.dtype, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns activations `[rows, 5]` of a kind, and their positions and token ids, int64 `[rows]`."""
    generator = torch.Generator().manual_seed(seed)
    acts = torch.randn(rows, 5, generator=generator) + 0.5
    if kind == "skewed":
        acts *= torch.randn(rows, 1, generator=generator).mul(1.5).exp()
    elif kind == "tied":
        acts = torch.tensor([[3.0, 0.0, 4.0, 0.0, 0.0], [0.0, -3.0, 0.0, 4.0, 0.0]])[torch.arange(rows) % 2]
    elif kind == "zero":
        acts.zero_()
    elif kind == "half zero":
        acts[::2] = 0.0
    elif kind == "outliers":
        acts[::50] *= 300
    elif kind == "huge":  # the largest number of fp16 beside small ones
        acts[torch.rand(rows, generator=generator) < 0.1] = 65504.0
    position, token_id = torch.randint(1, 20, (2, rows), generator=generator)
    return acts.to(dtype), position, token_id
