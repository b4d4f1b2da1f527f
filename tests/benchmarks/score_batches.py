"""Scores as an encoder gives them: fresh batches of sparse sums of Zipf-distributed features, fixed unit rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["ScoreBatches"]

_CHUNK = 512
_PER_TOKEN = 20


class ScoreBatches:
    """Consecutive batches of pre-activations of one shard; the same tokens on every rank.

    Args:
        d_sae: features over all ranks.
        d_in: width of the activations.
        tokens: tokens of a batch.
        features: this rank's.
        loud: factor on this rank's scores.
    """

    def __init__(self, d_sae: int, d_in: int, tokens: int, features: range, loud: float = 1.0) -> None:
        self._tokens = tokens
        self._rows = torch.nn.functional.normalize(torch.randn(d_sae, d_in, generator=_generator(0)), dim=1)
        popularity = (torch.arange(d_sae) + 10.0) ** -1.0
        self._popularity = popularity[torch.randperm(d_sae, generator=_generator(1))]
        self._mine = self._rows[features.start : features.stop] * loud

    def chunks(self, step: int) -> Iterator[tuple[int, Tensor]]:
        """Yields `(first local feature, pre_acts [features, tokens])` of batch `step`."""
        generator = _generator(2 + step)
        pairs = self._tokens * _PER_TOKEN
        members = torch.multinomial(self._popularity, pairs, replacement=True, generator=generator)
        strength = torch.rand(pairs, generator=generator).log().neg() + 0.5
        offsets = torch.arange(0, pairs, _PER_TOKEN)
        x = torch.nn.functional.embedding_bag(members, self._rows, offsets, mode="sum", per_sample_weights=strength)
        for first in range(0, len(self._mine), _CHUNK):
            yield first, self._mine[first : first + _CHUNK] @ x.t()


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
