"""A running average of the weights, which is less noisy than the last weights and becomes the finished SAE.

After every update `average = decay * average + (1 - decay) * parameter`. The average starts as a copy of the initial
weights. After `n` updates the decay is `(1 + n) / (10 + n)`, until that reaches the decay of the run: so the initial
weights, which are random, fade soon, and the average of a short run is that of its last part. Dividing by
`1 - decay^n` instead would give the earliest weights, the worst of all, as much weight as later ones. Apart from the
average, only the number of updates must be kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from distsae.model import FeatureShard

__all__ = ["WeightAverage"]

_ROWS = 1 << 12


class WeightAverage:
    """Averages of this rank's parameters, in their dtype and on their device.

    Args:
        shard: parameters, as they are before the first update.
        decay: decay per update after the first ones, between 0 and 1.
        rows_at_once: number of rows that are exchanged at once when the shard gets the averages.
    """

    def __init__(self, shard: FeatureShard, decay: float, rows_at_once: int = _ROWS) -> None:
        self._shard = shard
        self._decay = decay
        self._rows_at_once = rows_at_once
        self._averages = {name: parameter.detach().clone() for name, parameter in shard.named_parameters()}

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Adds the parameters after an update to the averages.

        Args:
            updates: number of updates before this one.
        """
        decay = min(self._decay, (1 + updates) / (10 + updates))
        for name, parameter in self._shard.named_parameters():
            self._averages[name].lerp_(parameter, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block, the shard has the averages as its weights, with decoder rows of unit norm.

        Weights and averages are exchanged in place, a few rows at a time, so that only decoder rows are held twice.
        The shard's prefilter notices both exchanges.
        """
        named = dict(self._shard.named_parameters())
        averages = self._averages | {"W_dec": self._averages["W_dec"].clone()}
        for name, parameter in named.items():
            self._exchange(parameter, averages[name])
        self._shard.normalise_decoder()
        try:
            yield
        finally:
            for name, parameter in named.items():
                self._exchange(parameter, averages[name])

    @torch.no_grad()
    def _exchange(self, parameter: Tensor, average: Tensor) -> None:
        for first in range(0, parameter.shape[0], self._rows_at_once):
            rows = slice(first, first + self._rows_at_once)
            weights = parameter[rows].clone()
            parameter[rows] = average[rows]
            average[rows] = weights

    def tensors(self) -> dict[str, Tensor]:
        """Returns the live averages as `average.PARAMETER`."""
        return {f"average.{name}": tensor for name, tensor in self._averages.items()}
