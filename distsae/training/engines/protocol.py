"""What the loop asks of an engine: turn the gradients of a step into an update of the shard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from distsae.checkpoint import Streamed
from distsae.training.step.gradients import Gradients

__all__ = ["Engine"]


class Engine(Protocol):
    """Averages gradients over the data axis and updates this rank's parameters."""

    def update(self, gradients: Gradients, learning_rate: float) -> float:
        """Applies a step's gradients and returns their global norm, each parameter counted once."""
        ...

    def tensors(self) -> dict[str, Tensor | Streamed]:
        """Returns the optimizer's tensors by name; those of a sharded parameter have its shape.

        Names and shapes are the same for every engine, so that a checkpoint of one is read by the other.
        """
        ...

    def restore(self, state: Mapping[str, object]) -> None:
        """Takes over what a checkpoint has put into the parameters and into the tensors that `state` returned."""
        ...
