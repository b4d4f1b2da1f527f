"""The random bits of stochastic rounding: for each number of a parameter and each step, the same on any mesh.

They follow from seed, step, parameter, global row and column: `word[column] + word[row]`, with a hash for the word of a
row. The bits of any two numbers are independent, so the variance of a sum of errors is the sum of their variances.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.seeds import derive

__all__ = ["RoundingNoise"]


class RoundingNoise:
    """Random integers below `2^16` for each element of one parameter and each step.

    Args:
        name: name of the parameter.
        parameter: this rank's rows of the parameter, `[features, d_in]`.
        first_row: global index of the first row.
        seed: seed of the run.
    """

    def __init__(self, name: str, parameter: Tensor, first_row: int, seed: int) -> None:
        self._name = name
        self._seed = seed
        features, self._d_in = parameter.shape
        self._features = torch.arange(first_row, first_row + features, device=parameter.device)
        self._step = -1
        self._row_words = self._features
        self._column_words = self._features

    def drawn(self, rows: slice, step: int) -> tuple[Tensor, Tensor]:
        """Returns two independent integers for each element of some rows, each int32 `[rows, d_in]`."""
        row_words, column_words = self.words(step)
        words = column_words + row_words[rows, None]
        return words & 0xFFFF, words.bitwise_right_shift_(16).bitwise_and_(0xFFFF)

    def words(self, step: int) -> tuple[Tensor, Tensor]:
        """Returns the words of all rows, int32 `[features]`, and of all columns, int32 `[d_in]`.

        The lower half of the sum of two words is the first integer of an element, the upper half the second.
        """
        if step != self._step:
            key = derive(self._seed, "moments", self._name, step)
            column_words = torch.randint(1 << 32, (self._d_in,), generator=torch.Generator().manual_seed(key))
            self._column_words = _on(self._features.device, column_words.to(torch.int32))
            self._row_words = _hashed(self._features, derive(key, "rows") >> 31).to(torch.int32)
            self._step = step
        return self._row_words, self._column_words


def _on(device: torch.device, numbers: Tensor) -> Tensor:
    """Returns a tensor of the CPU on a device; the CPU does not wait for a GPU."""
    if device.type != "cuda":
        return numbers.to(device)
    return numbers.pin_memory().to(device, non_blocking=True)


def _hashed(index: Tensor, key: int) -> Tensor:
    """Returns the finalizer of MurmurHash3 on int64 indices, with a 32-bit key; products may wrap around."""
    mask = 0xFFFFFFFF
    word = (index * 0x9E3779B1 + key) & mask
    word = ((word ^ (word >> 16)) * 0x85EBCA6B) & mask
    word = ((word ^ (word >> 13)) * 0xC2B2AE35) & mask
    return word ^ (word >> 16)
