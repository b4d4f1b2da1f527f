"""Positions of some contexts that are replaced, and counted, together: one choice for activations and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Positions"]


@dataclass(frozen=True)
class Positions:
    """A choice of positions.

    Args:
        chosen: whether each position is chosen, `[contexts, length]` bool.
        first: position before which none is chosen in any context.
    """

    chosen: Tensor
    first: int

    @staticmethod
    def from_position(first: int, token_ids: Tensor, excluded_tokens: Sequence[int] = ()) -> Positions:
        """Returns the choice of every position from `first` on, except those of some tokens.

        Args:
            first: first position that is chosen.
            token_ids: token ids of the contexts, `[contexts, length]`.
            excluded_tokens: ids of tokens that are not chosen.
        """
        chosen = ~torch.isin(token_ids, token_ids.new_tensor(excluded_tokens))
        chosen[:, :first] = False
        return Positions(chosen, first)

    def of(self, contexts: slice | Tensor) -> Positions:
        """Returns the same choice for some of the contexts: a slice of them, or their int64 indices."""
        return Positions(self.chosen[contexts], self.first)

    @property
    def rows(self) -> Tensor:
        """Whether each position from `first` on is chosen, `[contexts, length - first]` bool."""
        return self.chosen[:, self.first :]

    def replaced(self, activations: Tensor, replacement: Tensor) -> Tensor:
        """Returns activations with the chosen positions replaced.

        Args:
            activations: `[contexts, length, d_in]`.
            replacement: what to put in; it broadcasts to the shape of the activations, and is cast to their dtype.
        """
        return torch.where(self.chosen[..., None], replacement.to(activations.dtype), activations)

    def total(self, values: Tensor) -> Tensor:
        """Returns the sums over the chosen positions of each context, `[contexts]` float64 on their device.

        Args:
            values: a number of each position, or of each prediction, `[contexts, length]` or `[contexts, length - 1]`.
        """
        chosen = self.chosen[:, self.first : values.shape[1]]
        return values[:, self.first :].double().masked_fill(~chosen, 0.0).sum(1)
