"""How often, and how recently, each feature has fired, counted in tokens over all ranks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from distsae.allocation.segments import counted
from distsae.collective import Collective

__all__ = ["FiringStatistics"]


class FiringStatistics:
    """Firing statistics of this rank's features, equal on all data ranks and for every number of them.

    The density of a feature is its matches per token in an exponential window: a token of age `a` counts
    `exp(-a / window_tokens)`. The sum over the matches is divided by the same sum over all tokens, which makes the
    density unbiased from the first batch on.

    Args:
        features: number of features on this rank.
        window_tokens: length of the window, in tokens.
        dead_after_tokens: number of tokens without a match after which a feature is dead.
        device: device of the counts of features.

    Attributes:
        matches: discounted count of each feature's matches, fp64 `[features]`; a live tensor, as are the next two.
        tokens_since_fired: number of tokens since each feature's last match, int64 `[features]`.
        tokens: discounted count of the tokens, fp64 `[]`, on the CPU.
        last_counts: matches of each feature in the last batch, int64 `[features]`; None before the first batch.
        last_tokens: number of tokens of the last batch.
    """

    def __init__(
        self, features: int, window_tokens: int, dead_after_tokens: int, device: torch.device | str = "cpu"
    ) -> None:
        self.window_tokens = window_tokens
        self.dead_after_tokens = dead_after_tokens
        self.matches = torch.zeros(features, dtype=torch.float64, device=device)
        self.tokens_since_fired = torch.zeros(features, dtype=torch.long, device=device)
        self.tokens = torch.zeros((), dtype=torch.float64)
        self.last_counts: Tensor | None = None
        self.last_tokens = 0

    def update(self, feature: Tensor, tokens: int, data: Collective) -> None:
        """Counts the matches of a global batch; collective.

        Args:
            feature: local feature of each match of this rank, int64 `[matches]`.
            tokens: number of tokens of the global batch.
            data: the ranks with the same features and the other tokens of the batch.
        """
        counts = data.sum(counted(feature, self.matches.numel())).to(self.matches.device)
        decay = math.exp(-tokens / self.window_tokens)
        self.matches.mul_(decay).add_(counts)
        self.tokens.mul_(decay).add_(tokens)
        self.tokens_since_fired.add_(tokens).masked_fill_(counts > 0, 0)
        self.last_counts = counts
        self.last_tokens = tokens

    def follow(self, other: FiringStatistics) -> None:
        """Copies the tensors of the statistics of the same features into these."""
        tensors = other.tensors()
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])

    def tensors(self) -> dict[str, Tensor]:
        """Returns the live tensors: those with one row per local feature, and `tokens`, equal on all ranks."""
        return {"matches": self.matches, "tokens_since_fired": self.tokens_since_fired, "tokens": self.tokens}

    def density(self) -> Tensor:
        """Returns the matches per token of each local feature, fp64 `[features]`."""
        return self.matches / float(self.tokens.clamp(min=1))

    def dead(self) -> Tensor:
        """Marks the local features without a match for `dead_after_tokens` tokens, bool `[features]`."""
        return self.tokens_since_fired >= self.dead_after_tokens
