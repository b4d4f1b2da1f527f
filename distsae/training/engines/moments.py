"""Storage of Adam's two moments of a parameter between updates: in fp32, in bf16, or in 8 bits per number.

An update reads a block of rows in fp32 and writes it back. Rounding to nearest would lose updates of the second moment:
`beta2 = 0.999` changes it by a thousandth, while neighbouring bf16 numbers are four to eight thousandths apart, so it
would never change. Rounding is stochastic instead: up with the probability that makes the expectation exact.

The bits of a positive float, read as an integer, increase with the float. So adding a random integer below `2^n` and
dropping the last `n` bits rounds stochastically. The upper sixteen bits are a bf16. In 8 bits a number is also a float,
relative to the largest number of its block: a sign, 4 bits of exponent and 3 of mantissa for the first moment, 4 and 4
for the root of the second moment. The smallest code of a root is not zero: a small root is rounded up, which
only makes the update smaller, and never down to nothing, which would leave `eps` alone as the divisor.

The random bits follow from seed, step, parameter, global row and column, so they do not depend on the mesh:
`word[column] + word[row]`, with a hash for the word of a row. The bits of any two elements are independent, so the
variance of a sum of errors is the sum of their variances.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from distsae.seeds import derive

__all__ = ["Bf16Moments", "Fp32Moments", "Int8Moments", "Moments", "MomentsName", "moments_of"]

MomentsName = Literal["fp32", "bf16", "int8"]

_LARGEST_BLOCK = 256
_TINY = 1e-37
"""Smallest scale of a block, so that a block of zeros can be divided by its scale."""

_MEAN_DROPS, _ROOT_DROPS = 20, 19
"""Number of the 23 mantissa bits of fp32 that are dropped: 3 are left for the mean, 4 for the root."""

_ONE = 0x3F800000
_MEAN_SHIFT, _ROOT_SHIFT = (_ONE >> _MEAN_DROPS) - 127, (_ONE >> _ROOT_DROPS) - 255
"""Difference between the remaining bits of a number and its code: the largest code stands for 1."""


class Moments(Protocol):
    """The first moment (mean of the gradients) and the second (mean of their squares) of one parameter."""

    def read(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Returns both moments of some rows, in the dtype of the update."""
        ...

    def write(self, rows: slice, mean: Tensor, square: Tensor, step: int) -> None:
        """Stores both moments of some rows after an update.

        Args:
            rows: the rows that were read.
            mean: updated first moment; may be overwritten.
            square: updated second moment; may be overwritten.
            step: number of the update, counted from 1.
        """
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Returns the live tensors by name, one row per local feature."""
        ...


def moments_of(name: str, parameter: Tensor, kind: MomentsName, first_row: int, seed: int) -> Moments:
    """Returns moments of zero for a parameter.

    Args:
        name: name of the parameter.
        parameter: this rank's rows of the parameter. The moments of a vector are small, and always in fp32.
        kind: storage of the moments of a matrix.
        first_row: global index of the first row.
        seed: seed of the run.
    """
    if kind == "fp32" or parameter.dim() < 2:
        return Fp32Moments(parameter)
    noise = _RoundingNoise(name, parameter, first_row, seed)
    return Bf16Moments(parameter, noise) if kind == "bf16" else Int8Moments(parameter, noise)


class Fp32Moments:
    """Moments in the dtype of the parameter: `read` returns live tensors, so `write` has nothing to do."""

    def __init__(self, parameter: Tensor) -> None:
        self._mean = torch.zeros_like(parameter)
        self._square = torch.zeros_like(parameter)

    def read(self, rows: slice) -> tuple[Tensor, Tensor]:
        """See `Moments`."""
        return self._mean[rows], self._square[rows]

    def write(self, rows: slice, mean: Tensor, square: Tensor, step: int) -> None:
        """See `Moments`."""

    def tensors(self) -> dict[str, Tensor]:
        """See `Moments`."""
        return {"exp_avg": self._mean, "exp_avg_sq": self._square}


class Bf16Moments:
    """Moments in bf16: 4 bytes for each number of the parameter instead of 8."""

    def __init__(self, parameter: Tensor, noise: _RoundingNoise) -> None:
        self._mean = torch.zeros_like(parameter, dtype=torch.bfloat16)
        self._square = torch.zeros_like(self._mean)
        self._noise = noise

    def read(self, rows: slice) -> tuple[Tensor, Tensor]:
        """See `Moments`."""
        return self._mean[rows].float(), self._square[rows].float()

    def write(self, rows: slice, mean: Tensor, square: Tensor, step: int) -> None:
        """See `Moments`."""
        mean_noise, square_noise = self._noise.drawn(rows, step)
        self._mean[rows].view(torch.int16).copy_(_rounded_bits(mean, 16, mean_noise))
        self._square[rows].view(torch.int16).copy_(_rounded_bits(square, 16, square_noise))

    def tensors(self) -> dict[str, Tensor]:
        """See `Moments`."""
        return {"exp_avg": self._mean, "exp_avg_sq": self._square}


class Int8Moments:
    """Moments in 8 bits: 2 bytes for each number of the parameter, and two fp32 scales for each block of a row.

    The length of a block is the largest divisor of `d_in` up to 256.
    """

    def __init__(self, parameter: Tensor, noise: _RoundingNoise) -> None:
        features, d_in = parameter.shape
        self._block = next(size for size in range(min(d_in, _LARGEST_BLOCK), 0, -1) if d_in % size == 0)
        self._mean = torch.zeros_like(parameter, dtype=torch.uint8)
        self._root = torch.zeros_like(self._mean)
        self._mean_scale = parameter.new_zeros(features, d_in // self._block, dtype=torch.float32)
        self._root_scale = torch.zeros_like(self._mean_scale)
        self._noise = noise
        codes = torch.arange(256, dtype=torch.int32, device=parameter.device)
        magnitude = ((codes % 128 + _MEAN_SHIFT) << _MEAN_DROPS).view(torch.float32) * (codes % 128 > 0)
        self._mean_values = torch.where(codes < 128, magnitude, -magnitude)
        self._root_values = ((codes + _ROOT_SHIFT) << _ROOT_DROPS).view(torch.float32)

    def read(self, rows: slice) -> tuple[Tensor, Tensor]:
        """See `Moments`."""
        mean = self._decoded(self._mean[rows], self._mean_values, self._mean_scale[rows])
        root = self._decoded(self._root[rows], self._root_values, self._root_scale[rows])
        return mean, root.square_()

    def write(self, rows: slice, mean: Tensor, square: Tensor, step: int) -> None:
        """See `Moments`."""
        mean_noise, root_noise = self._noise.drawn(rows, step)
        self._divide_by_scale(mean, mean.abs(), self._mean_scale[rows])
        sign = (mean.view(torch.int32) >> 24) & 128
        codes = _rounded_bits(mean.abs_(), _MEAN_DROPS, mean_noise).sub_(_MEAN_SHIFT).clamp_(min=0)
        self._mean[rows] = codes.bitwise_or_(sign)
        root = square.clamp_(min=_TINY).sqrt_()  # the root of zero takes longer
        self._divide_by_scale(root, root, self._root_scale[rows])
        self._root[rows] = _rounded_bits(root, _ROOT_DROPS, root_noise).sub_(_ROOT_SHIFT).clamp_(min=0)

    def tensors(self) -> dict[str, Tensor]:
        """Returns the live codes and scales by name; those of `exp_avg_sq` are of roots of the second moment."""
        return {
            "exp_avg": self._mean,
            "exp_avg_scale": self._mean_scale,
            "exp_avg_sq": self._root,
            "exp_avg_sq_scale": self._root_scale,
        }

    def _decoded(self, codes: Tensor, values: Tensor, scale: Tensor) -> Tensor:
        """Returns the fp32 numbers of codes.

        Args:
            codes: codes of some rows, `[rows, d_in]`.
            values: value of each code, `[256]`.
            scale: scale of each block, `[rows, blocks]`.
        """
        found = values.index_select(0, codes.view(-1).int())
        found.view(*scale.shape, self._block).mul_(scale[..., None])
        return found.view(codes.shape)

    def _divide_by_scale(self, numbers: Tensor, sizes: Tensor, scale: Tensor) -> None:
        """Divides each block of numbers, in place, by its largest size, and stores that as its scale."""
        torch.amax(sizes.view(*scale.shape, self._block), dim=2, out=scale).clamp_(min=_TINY)
        numbers.view(*scale.shape, self._block).div_(scale[..., None])


def _rounded_bits(numbers: Tensor, dropped: int, noise: Tensor) -> Tensor:
    """Rounds fp32 numbers stochastically, in place, and returns the bits that remain, int32.

    Args:
        numbers: finite numbers.
        dropped: number of bits to drop, at least 16.
        noise: random integers, uniform below `2^16`; overwritten.
    """
    shifted = noise if dropped == 16 else noise.bitwise_left_shift_(dropped - 16)
    return numbers.view(torch.int32).add_(shifted).bitwise_right_shift_(dropped)


class _RoundingNoise:
    """Random integers below `2^16` for each element of one parameter and each step; see the module.

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
        if step != self._step:
            self._draw_words(step)
        words = self._column_words + self._row_words[rows, None]
        return words & 0xFFFF, words.bitwise_right_shift_(16).bitwise_and_(0xFFFF)

    def _draw_words(self, step: int) -> None:
        """Draws the words of all rows and columns for a step."""
        key = derive(self._seed, "moments", self._name, step)
        column_words = torch.randint(1 << 32, (self._d_in,), generator=torch.Generator().manual_seed(key))
        self._column_words = column_words.to(self._features.device).to(torch.int32)
        self._row_words = _hashed(self._features, derive(key, "rows") >> 31).to(torch.int32)
        self._step = step


def _hashed(index: Tensor, key: int) -> Tensor:
    """Returns the finalizer of MurmurHash3 on int64 indices, with a 32-bit key; products may wrap around."""
    mask = 0xFFFFFFFF
    word = (index * 0x9E3779B1 + key) & mask
    word = ((word ^ (word >> 16)) * 0x85EBCA6B) & mask
    word = ((word ^ (word >> 13)) * 0xC2B2AE35) & mask
    return word ^ (word >> 16)
