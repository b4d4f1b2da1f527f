"""What a contestant is given and must do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

__all__ = ["Contestant", "Data"]


@dataclass(frozen=True)
class Data:
    """What is known of the activations before training.

    Args:
        mean: mean activation, `[d_in]`.
        variance: `E ||x - mean||^2`.
    """

    mean: Tensor
    variance: float


class Contestant(Protocol):
    """A trainer that is ready for its first step.

    Attributes:
        version: of the library.
        warmup: steps before the ones that are timed.
    """

    version: str
    warmup: int

    def step(self, x: Tensor) -> float:
        """Trains on the batch `x`, fp32 `[tokens, d_in]`; returns its FVU before the update, NaN if there is none."""
        ...
