"""The problem all contestants train on: sparse mixtures of Zipf-frequent directions with an offset and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Size", "activations"]

_DIRECTIONS_PER_DIM = 5
_ACTIVE = 24
_NOISE = 0.2
_OFFSET = 0.3
_BASE_RATE, _BASE_WIDTH = 1.6e-3, 1 << 14


@dataclass(frozen=True)
class Size:
    """What is trained, and with how many threads.

    Args:
        d_in: width of the activations.
        d_sae: features.
        tokens: tokens of a step.
        k: mean matches per token.
        threads: threads of each contestant.
    """

    d_in: int
    d_sae: int
    tokens: int
    k: int
    threads: int

    @property
    def rate(self) -> float:
        """The learning rate, the same for all."""
        return _BASE_RATE * (_BASE_WIDTH / self.d_sae) ** 0.5


def activations(batches: int, tokens: int, d_in: int, seed: int) -> NDArray[np.float32]:
    """Returns fp32 `[batches, tokens, d_in]`; a row's mean norm is `sqrt(d_in)`. The first batches do not depend on
    their number."""
    fixed = np.random.default_rng(seed)
    number = _DIRECTIONS_PER_DIM * d_in
    directions = fixed.standard_normal((number, d_in), dtype=np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    offset = fixed.standard_normal(d_in, dtype=np.float32) * np.float32(_OFFSET)
    weight = 1 / (np.arange(number) + 10)
    frequency = np.minimum(_ACTIVE * weight / weight.sum(), 0.5).astype(np.float32)
    scale = np.sqrt(d_in / _ACTIVE)
    found = np.empty((batches, tokens, d_in), np.float32)
    for batch in range(batches):
        fresh = np.random.default_rng([seed, batch])
        active = fresh.random((tokens, number), dtype=np.float32) < frequency
        active = active * fresh.gamma(4.0, scale / 4, (tokens, number)).astype(np.float32)
        noise = fresh.standard_normal((tokens, d_in), dtype=np.float32) * np.float32(_NOISE)
        found[batch] = active @ directions + offset + noise
        found[batch] *= np.sqrt(d_in) / np.linalg.norm(found[batch], axis=1).mean()
    return found
