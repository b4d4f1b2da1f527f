"""Where Adam's two moments of a parameter lie between updates: in fp32, in bf16, or in 8 bits a number.

An update works on a block of rows in fp32 and gives it back. Rounding to nearest would lose what it does to the second
moment: `beta2 = 0.999` moves that by a thousandth, the numbers of bf16 are four to eight thousandths apart, so that it
would stay where it is. Rounding is stochastic instead: up with the probability that makes the expectation exact.

A float's bits, read as an integer, grow with it: adding a random number below `2^n` and dropping the last `n` bits is
stochastic rounding. Sixteen bits that are left are a bf16. In 8 bits a number is a float as well, relative to the
largest of its block: a sign, 4 bits of exponent, 3 of mantissa, and for the second moment, of which the root is kept,
4 and 4. Its smallest code is not zero: a second moment that is too small is only too careful.

The random bits are those of (seed, step, parameter, global row, column), whoever holds the row: `word[column] +
word[row]`, the row's by a hash. Any two elements have independent bits, so that errors add up as if all had.
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
"""No scale is smaller, so that a block of zeros can be divided by it."""

_MEAN_DROPS, _ROOT_DROPS = 20, 19
"""Of the 23 bits of fp32's mantissa, and no others: 3 are left for the mean, 4 for the root."""

_ONE = 0x3F800000
_MEAN_SHIFT, _ROOT_SHIFT = (_ONE >> _MEAN_DROPS) - 127, (_ONE >> _ROOT_DROPS) - 255
"""What the bits that are left exceed codes by: the largest code is 1."""


class Moments(Protocol):
    """The first moment (the mean of gradients) and the second (the mean of their squares) of one parameter."""

    def read(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Returns both moments of some rows, as numbers to compute with."""
        ...

    def write(self, rows: slice, mean: Tensor, square: Tensor, step: int) -> None:
        """Takes back what `read` gave and the update of `step` has changed; may overwrite both tensors."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Returns the live tensors by name, a row a feature."""
        ...


def moments_of(name: str, parameter: Tensor, kind: MomentsName, first_row: int, seed: int) -> Moments:
    """Returns moments of zero.

    Args:
        name: of the parameter.
        parameter: this rank's rows of it. Vectors keep fp32 moments: they are small.
        kind: how the moments of a matrix are kept.
        first_row: global index of the first row.
        seed: of the run.
    """
    if kind == "fp32" or parameter.dim() < 2:
        return Fp32Moments(parameter)
    noise = _Noise(name, parameter, first_row, seed)
    return Bf16Moments(parameter, noise) if kind == "bf16" else Int8Moments(parameter, noise)


class Fp32Moments:
    """Moments in the parameter's dtype: what is read is live, and nothing needs to be taken back."""

    def __init__(self, parameter: Tensor) -> None:
        self._mean, self._square = torch.zeros_like(parameter), torch.zeros_like(parameter)

    def read(self, rows: slice) -> tuple[Tensor, Tensor]:
        """See `Moments`."""
        return self._mean[rows], self._square[rows]

    def write(self, rows: slice, mean: Tensor, square: Tensor, step: int) -> None:
        """See `Moments`."""

    def tensors(self) -> dict[str, Tensor]:
        """See `Moments`."""
        return {"exp_avg": self._mean, "exp_avg_sq": self._square}


class Bf16Moments:
    """Moments in bf16: 4 bytes a number of the parameter instead of 8."""

    def __init__(self, parameter: Tensor, noise: _Noise) -> None:
        self._mean = torch.zeros_like(parameter, dtype=torch.bfloat16)
        self._square = torch.zeros_like(self._mean)
        self._noise = noise

    def read(self, rows: slice) -> tuple[Tensor, Tensor]:
        """See `Moments`."""
        return self._mean[rows].float(), self._square[rows].float()

    def write(self, rows: slice, mean: Tensor, square: Tensor, step: int) -> None:
        """See `Moments`."""
        one, other = self._noise.of(rows, step)
        self._mean[rows].view(torch.int16).copy_(_shortened(mean, 16, one))
        self._square[rows].view(torch.int16).copy_(_shortened(square, 16, other))

    def tensors(self) -> dict[str, Tensor]:
        """See `Moments`."""
        return {"exp_avg": self._mean, "exp_avg_sq": self._square}


class Int8Moments:
    """Moments in a byte a number, with one fp32 scale for the largest divisor of `d_in` up to 256 numbers of a row."""

    def __init__(self, parameter: Tensor, noise: _Noise) -> None:
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
        mean = self._values(self._mean[rows], self._mean_values, self._mean_scale[rows])
        return mean, self._values(self._root[rows], self._root_values, self._root_scale[rows]).square_()

    def write(self, rows: slice, mean: Tensor, square: Tensor, step: int) -> None:
        """See `Moments`."""
        one, other = self._noise.of(rows, step)
        self._scale(mean, mean.abs(), self._mean_scale[rows])
        sign = (mean.view(torch.int32) >> 24) & 128
        bits = _shortened(mean.abs_(), _MEAN_DROPS, one).sub_(_MEAN_SHIFT).clamp_(min=0).bitwise_or_(sign)
        self._mean[rows] = bits
        root = square.clamp_(min=_TINY).sqrt_()  # the root of zero is a slow one
        self._scale(root, root, self._root_scale[rows])
        self._root[rows] = _shortened(root, _ROOT_DROPS, other).sub_(_ROOT_SHIFT).clamp_(min=0)

    def tensors(self) -> dict[str, Tensor]:
        """Returns codes and scales; `exp_avg_sq` has those of the roots."""
        return {
            "exp_avg": self._mean,
            "exp_avg_scale": self._mean_scale,
            "exp_avg_sq": self._root,
            "exp_avg_sq_scale": self._root_scale,
        }

    def _values(self, codes: Tensor, values: Tensor, scale: Tensor) -> Tensor:
        found = values.index_select(0, codes.view(-1).int())
        found.view(*scale.shape, self._block).mul_(scale[..., None])
        return found.view(codes.shape)

    def _scale(self, numbers: Tensor, sizes: Tensor, scale: Tensor) -> None:
        """Divides a block by its largest size, which is kept."""
        torch.amax(sizes.view(*scale.shape, self._block), dim=2, out=scale).clamp_(min=_TINY)
        numbers.view(*scale.shape, self._block).div_(scale[..., None])


def _shortened(numbers: Tensor, dropped: int, noise: Tensor) -> Tensor:
    """Rounds fp32 numbers stochastically, in place, and returns the bits that are left, int32.

    Args:
        numbers: finite.
        dropped: how many bits to drop, at least 16.
        noise: integers, uniform below `2^16`; overwritten.
    """
    finer = noise if dropped == 16 else noise.bitwise_left_shift_(dropped - 16)
    return numbers.view(torch.int32).add_(finer).bitwise_right_shift_(dropped)


class _Noise:
    """Random integers below `2^16` for the elements of one parameter; see the module."""

    def __init__(self, name: str, parameter: Tensor, first_row: int, seed: int) -> None:
        self._name = name
        self._seed = seed
        (features, self._width) = parameter.shape
        self._features = torch.arange(first_row, first_row + features, device=parameter.device)
        self._step = -1
        self._rows = self._features
        self._columns = self._features

    def of(self, rows: slice, step: int) -> tuple[Tensor, Tensor]:
        """Returns two independent ones for each element of some rows, int32 `[rows, d_in]`."""
        if step != self._step:
            self._draw(step)
        words = self._columns + self._rows[rows, None]
        return words & 0xFFFF, words.bitwise_right_shift_(16).bitwise_and_(0xFFFF)

    def _draw(self, step: int) -> None:
        key = derive(self._seed, "moments", self._name, step)
        columns = torch.randint(1 << 32, (self._width,), generator=torch.Generator().manual_seed(key))
        self._columns = columns.to(self._features.device).to(torch.int32)
        self._rows = _hashed(self._features, derive(key, "rows") >> 31).to(torch.int32)
        self._step = step


def _hashed(index: Tensor, key: int) -> Tensor:
    """Returns the last step of MurmurHash3 of int64 numbers, with a 32-bit key; they wrap around as integers do."""
    mask = 0xFFFFFFFF
    word = (index * 0x9E3779B1 + key) & mask
    word = ((word ^ (word >> 16)) * 0x85EBCA6B) & mask
    word = ((word ^ (word >> 13)) * 0xC2B2AE35) & mask
    return word ^ (word >> 16)
