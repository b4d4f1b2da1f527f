"""Adam's two moments as they are kept between updates: in fp32, in bf16, or in 8 bits per number.

An update reads rows in fp32 and writes them back. Rounding to nearest would lose updates of the second moment:
`beta2 = 0.999` changes it by a thousandth, while neighbouring bf16 numbers are four to eight thousandths apart, so it
would never change. Rounding is stochastic instead: up with the probability that makes the expectation exact.

The bits of a positive float, read as an integer, increase with the float. So adding a random integer below `2^n` and
dropping the last `n` bits rounds stochastically. The upper sixteen bits are a bf16. In 8 bits a number is also a float,
relative to the largest number of its block: a sign, 4 bits of exponent and 3 of mantissa for the first moment, 4 and 4
for the root of the second moment. The smallest code of a root is not zero: a small root is rounded up, which
only makes the update smaller, and never down to nothing, which would leave `eps` alone as the divisor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

__all__ = ["MEAN_DROPS", "MEAN_SHIFT", "ROOT_DROPS", "ROOT_SHIFT", "TINY_SCALE", "KeptMoments", "block_length"]

_LARGEST_BLOCK = 256
TINY_SCALE = 1e-37
"""Smallest scale of a block, so that a block of zeros can be divided by its scale."""

MEAN_DROPS, ROOT_DROPS = 20, 19
"""Number of the 23 mantissa bits of fp32 that are dropped: 3 are left for the mean, 4 for the root."""

_ONE = 0x3F800000
MEAN_SHIFT, ROOT_SHIFT = (_ONE >> MEAN_DROPS) - 127, (_ONE >> ROOT_DROPS) - 255
"""Difference between the remaining bits of a number and its code: the largest code stands for 1."""


def block_length(d_in: int) -> int:
    """Returns how many numbers of a row share a scale in 8 bits: the largest divisor of `d_in` up to 256."""
    return next(size for size in range(min(d_in, _LARGEST_BLOCK), 0, -1) if d_in % size == 0)


@dataclass(frozen=True)
class KeptMoments:
    """Both moments of some rows, live, with what their rounding needs.

    Args:
        mean: first moment, in the shape of the parameter: numbers in fp32 or bf16, or codes, uint8.
        square: second moment in the same dtype; codes are those of its root.
        mean_scale: for codes, the scale of each block of a row, fp32 `[rows, blocks]`.
        square_scale: for codes, likewise the scale of the roots.
        row_words: random word of each row (`RoundingNoise.words`), int32 `[rows]`; to write in bf16 and 8 bits.
        column_words: random word of each column, int32 `[d_in]`; likewise.
    """

    mean: Tensor
    square: Tensor
    mean_scale: Tensor | None = None
    square_scale: Tensor | None = None
    row_words: Tensor | None = None
    column_words: Tensor | None = None

    def of(self, rows: slice) -> KeptMoments:
        """Returns those of some rows, live."""
        return KeptMoments(
            self.mean[rows],
            self.square[rows],
            None if self.mean_scale is None else self.mean_scale[rows],
            None if self.square_scale is None else self.square_scale[rows],
            None if self.row_words is None else self.row_words[rows],
            self.column_words,
        )

    def read(self) -> tuple[Tensor, Tensor]:
        """Returns both moments in the dtype of the update: the live tensors themselves if they are not rounded."""
        if self.mean_scale is not None and self.square_scale is not None:
            mean_values, root_values = _values_on(self.mean.device)
            mean = _decoded(self.mean, mean_values, self.mean_scale)
            return mean, _decoded(self.square, root_values, self.square_scale).square_()
        if self.mean.dtype == torch.bfloat16:
            return self.mean.float(), self.square.float()
        return self.mean, self.square

    def write(self, mean: Tensor, square: Tensor) -> None:
        """Stores both moments after an update; does nothing if they are not rounded: `read` returned the live tensors.

        Args:
            mean: updated first moment, fp32; may be overwritten.
            square: updated second moment, fp32; may be overwritten.
        """
        if self.mean.dtype.itemsize >= 4:
            return
        assert self.row_words is not None
        assert self.column_words is not None
        words = self.column_words + self.row_words[:, None]
        mean_noise = words & 0xFFFF
        square_noise = words.bitwise_right_shift_(16).bitwise_and_(0xFFFF)
        if self.mean_scale is None or self.square_scale is None:
            self.mean.view(torch.int16).copy_(_rounded_bits(mean, 16, mean_noise))
            self.square.view(torch.int16).copy_(_rounded_bits(square, 16, square_noise))
            return
        _divide_by_scale(mean, mean.abs(), self.mean_scale)
        sign = (mean.view(torch.int32) >> 24) & 128
        codes = _rounded_bits(mean.abs_(), MEAN_DROPS, mean_noise).sub_(MEAN_SHIFT).clamp_(min=0)
        self.mean.copy_(codes.bitwise_or_(sign))
        root = square.clamp_(min=TINY_SCALE).sqrt_()  # the root of zero takes longer
        _divide_by_scale(root, root, self.square_scale)
        self.square.copy_(_rounded_bits(root, ROOT_DROPS, square_noise).sub_(ROOT_SHIFT).clamp_(min=0))


@cache
def _values_on(device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the value of each code of a mean, and of each code of a root, relative to the scale, `[256]` each."""
    codes = torch.arange(256, dtype=torch.int32, device=device)
    magnitude = ((codes % 128 + MEAN_SHIFT) << MEAN_DROPS).view(torch.float32) * (codes % 128 > 0)
    roots = ((codes + ROOT_SHIFT) << ROOT_DROPS).view(torch.float32)
    return torch.where(codes < 128, magnitude, -magnitude), roots


def _decoded(codes: Tensor, values: Tensor, scale: Tensor) -> Tensor:
    """Returns the fp32 numbers of codes.

    Args:
        codes: codes of some rows, `[rows, d_in]`.
        values: value of each code, `[256]`.
        scale: scale of each block, `[rows, blocks]`.
    """
    found = values.index_select(0, codes.view(-1).int())
    _in_blocks(found.view(codes.shape), scale).mul_(scale[..., None])
    return found.view(codes.shape)


def _divide_by_scale(numbers: Tensor, sizes: Tensor, scale: Tensor) -> None:
    """Divides each block of numbers, in place, by its largest size, and stores that as its scale."""
    torch.amax(_in_blocks(sizes, scale), dim=2, out=scale).clamp_(min=TINY_SCALE)
    _in_blocks(numbers, scale).div_(scale[..., None])


def _in_blocks(numbers: Tensor, scale: Tensor) -> Tensor:
    """Views rows as blocks that have one scale each, `[rows, blocks, length]`."""
    return numbers.view(*scale.shape, numbers.shape[1] // scale.shape[1])


def _rounded_bits(numbers: Tensor, dropped: int, noise: Tensor) -> Tensor:
    """Rounds fp32 numbers stochastically, in place, and returns the bits that remain, int32.

    Args:
        numbers: finite numbers.
        dropped: number of bits to drop, at least 16.
        noise: random integers, uniform below `2^16`; overwritten.
    """
    shifted = noise if dropped == 16 else noise.bitwise_left_shift_(dropped - 16)
    return numbers.view(torch.int32).add_(shifted).bitwise_right_shift_(dropped)
