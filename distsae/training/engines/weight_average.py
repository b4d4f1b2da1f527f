"""A running average of the weights, which is less noisy than the last ones and becomes the finished SAE.

`average = decay * average + (1 - decay) * parameter` after every update. It starts from a copy of the first weights and
a decay of `(1 + n) / (10 + n)` after `n` updates until that reaches the decay asked for: the first weights, which are
random, are forgotten soon, and the average of a short run is that of its last part. Dividing by `1 - decay^n` instead
would give the earliest weights, the worst of all, as much weight as the later ones. No state is needed but the step.
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
        shard: the parameters, as they are before the first update.
        decay: share of the average that an update leaves, once warm.
    """

    def __init__(self, shard: FeatureShard, decay: float) -> None:
        self._shard, self._decay = shard, decay
        self._averages = {name: parameter.detach().clone() for name, parameter in shard.named_parameters()}

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Takes in the parameters after an update.

        Args:
            updates: how many there were before it.
        """
        decay = min(self._decay, (1 + updates) / (10 + updates))
        for name, parameter in self._shard.named_parameters():
            self._averages[name].lerp_(parameter, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Lets the shard have the averages for its weights meanwhile, with decoder rows of unit norm.

        They change places, row by row and in their memory: the shard notices, and only decoder rows are held twice.
        """
        named = dict(self._shard.named_parameters())
        averages = self._averages | {"W_dec": self._averages["W_dec"].clone()}
        for name, parameter in named.items():
            _exchange(parameter, averages[name])
        self._shard.normalise_decoder()
        try:
            yield
        finally:
            for name, parameter in named.items():
                _exchange(parameter, averages[name])

    def tensors(self) -> dict[str, Tensor]:
        """Returns the live tensors as `average.PARAMETER`."""
        return {f"average.{name}": tensor for name, tensor in self._averages.items()}


@torch.no_grad()
def _exchange(one: Tensor, other: Tensor) -> None:
    for first in range(0, one.shape[0], _ROWS):
        rows = slice(first, first + _ROWS)
        kept = one[rows].clone()
        one[rows] = other[rows]
        other[rows] = kept
