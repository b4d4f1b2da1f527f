"""The interface of an engine, which updates the shard with the gradients of a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from distsae.checkpoint import Shard, Streamed
from distsae.training.step.gradients import Gradients

__all__ = ["Engine"]


class Engine(Protocol):
    """The optimizer of this rank's features: sums gradients over the data axis and updates the parameters."""

    def update(self, gradients: Gradients, learning_rate: float) -> float:
        """Updates the parameters and returns the global norm of the gradients. Collective.

        Args:
            gradients: gradients from the tokens of this data rank.
            learning_rate: learning rate of the step.

        Returns:
            Norm of the gradients of the global batch, before clipping, with each parameter counted once.
        """
        ...

    def take_over_encoder(self) -> None:
        """Takes over the encoder rows of the shard, which were changed before the first update. Collective."""
        ...

    def tensors(self) -> dict[str, Tensor | Streamed | Shard]:
        """Returns Adam's steps and moments by name; those of a sharded parameter have one row per local feature.

        A `Shard` has the rows of this rank alone. Names and global shapes are the same for all engines, so that each
        resumes from the checkpoints of the other.
        """
        ...

    def restore(self, tensors: Mapping[str, object]) -> None:
        """Continues from a checkpoint that has filled the parameters and these `tensors`.

        Args:
            tensors: the mapping that `tensors` returned, with the contents of the checkpoint.
        """
        ...
