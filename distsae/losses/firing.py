"""Who fires how often: counted in tokens, over all ranks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from distsae.collective import Collective

__all__ = ["FiringStatistics"]


class FiringStatistics:
    """Density and age of this rank's features; equal on all data ranks, whatever the mesh.

    The density of a feature is its matches per token in an exponential window: a token counts `exp(-age / window)`.
    Dividing by the same sum over all tokens makes it unbiased from the first batch on.

    Args:
        features: features on this rank.
        window_tokens: length of the window, in tokens.
        dead_after_tokens: tokens without a match after which a feature is dead.
    """

    def __init__(self, features: int, window_tokens: int, dead_after_tokens: int) -> None:
        self.window_tokens, self.dead_after_tokens = window_tokens, dead_after_tokens
        self.matches = torch.zeros(features, dtype=torch.float64)
        self.tokens_since_fired = torch.zeros(features, dtype=torch.long)
        self.tokens = torch.zeros((), dtype=torch.float64)

    def update(self, feature: Tensor, tokens: int, data: Collective) -> None:
        """Counts the matches of a global batch.

        Args:
            feature: local feature of each match of this rank, int64 `[matches]`.
            tokens: tokens of the global batch.
            data: the ranks that hold the same features of the batch's other tokens.
        """
        counts = data.sum(torch.bincount(feature, minlength=self.matches.numel())).cpu()
        decay = math.exp(-tokens / self.window_tokens)
        self.matches.mul_(decay).add_(counts)
        self.tokens.mul_(decay).add_(tokens)
        self.tokens_since_fired.add_(tokens).masked_fill_(counts > 0, 0)

    def density(self) -> Tensor:
        """Returns the matches per token of each local feature, fp64 `[features]`."""
        return self.matches / self.tokens.clamp(min=1)

    def dead(self) -> Tensor:
        """Marks the local features without a match for `dead_after_tokens` tokens, bool `[features]`."""
        return self.tokens_since_fired >= self.dead_after_tokens
