"""Adam's step on one row of a GPU's update, and the moments it reads and writes, in the formats of `kept_moments.py`.

The numbers of a row are a vector whose entries lie at the columns that the caller chose; where moments are in 8 bits,
each `LENGTH` consecutive entries are one block, padded at its end. All arithmetic is on integers or rounds once, so the
same fp32 numbers give the same bits as on a CPU.

Import this module only where Triton is installed.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from distsae.kernels.kept_moments import (
    MEAN_DROPS,
    MEAN_SHIFT,
    ROOT_DROPS,
    ROOT_SHIFT,
    TINY_SCALE,
    KeptMoments,
    block_length,
)

__all__ = [
    "adam",
    "layout_of",
    "operands_of",
    "read_mean",
    "read_square",
    "rounding_words",
    "stepped",
    "write_mean",
    "write_square",
]

_MEAN_DROPS = tl.constexpr(MEAN_DROPS)
_MEAN_SHIFT = tl.constexpr(MEAN_SHIFT)
_ROOT_DROPS = tl.constexpr(ROOT_DROPS)
_ROOT_SHIFT = tl.constexpr(ROOT_SHIFT)
_TINY_SCALE = tl.constexpr(TINY_SCALE)


@triton.jit  # type: ignore[untyped-decorator]
def _scaled(numbers: tl.tensor, scales: tl.tensor, blocks: int, LENGTH: tl.constexpr) -> tl.tensor:
    """Multiplies each block of numbers by its scale; `scales` is the address of a row's first one."""
    BLOCKS: tl.constexpr = numbers.shape[0] // LENGTH
    block = tl.arange(0, BLOCKS)
    scale = tl.load(scales + block, mask=block < blocks, other=0)
    return tl.reshape(tl.reshape(numbers, (BLOCKS, LENGTH)) * scale[:, None], (BLOCKS * LENGTH,))


@triton.jit  # type: ignore[untyped-decorator]
def _divided(numbers: tl.tensor, scales: tl.tensor, blocks: int, LENGTH: tl.constexpr) -> tl.tensor:
    """Divides each block of numbers by its largest size, and stores that as the block's scale."""
    BLOCKS: tl.constexpr = numbers.shape[0] // LENGTH
    block = tl.arange(0, BLOCKS)
    rows = tl.reshape(numbers, (BLOCKS, LENGTH))
    scale = tl.maximum(tl.max(tl.abs(rows), axis=1), _TINY_SCALE)
    tl.store(scales + block, scale, mask=block < blocks)
    whole = tl.broadcast_to(scale[:, None], (BLOCKS, LENGTH))
    return tl.reshape(tl.div_rn(rows, whole), (BLOCKS * LENGTH,))


@triton.jit  # type: ignore[untyped-decorator]
def _rounded(numbers: tl.tensor, noise: tl.tensor, DROPS: tl.constexpr) -> tl.tensor:
    """Returns the bits of fp32 numbers that remain after random integers below `2^16` are added to the dropped ones."""
    return (numbers.to(tl.int32, bitcast=True) + (noise << (DROPS - 16))) >> DROPS


@triton.jit  # type: ignore[untyped-decorator]
def read_mean(
    kept: tl.tensor, place: tl.tensor, inside: tl.tensor, scales: tl.tensor, blocks: int, LENGTH: tl.constexpr
) -> tl.tensor:
    """Returns first moments in fp32; 0 outside.

    Args:
        kept: address of the parameter's first one: fp32, int16 for bf16, or uint8 for codes.
        place: index of each number.
        inside: whether a number exists.
        scales: address of the row's first scale.
        blocks: number of scales of a row.
        LENGTH: entries of a block.
    """
    found = tl.load(kept + place, mask=inside, other=0)
    if kept.dtype.element_ty == tl.int16:
        found = (found.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    elif kept.dtype.element_ty == tl.uint8:
        code = found.to(tl.int32)
        size = code & 127
        bits = tl.where(size > 0, (size + _MEAN_SHIFT) << _MEAN_DROPS, 0) | ((code & 128) << 24)
        found = _scaled(bits.to(tl.float32, bitcast=True), scales, blocks, LENGTH)
    return found


@triton.jit  # type: ignore[untyped-decorator]
def read_square(
    kept: tl.tensor, place: tl.tensor, inside: tl.tensor, scales: tl.tensor, blocks: int, LENGTH: tl.constexpr
) -> tl.tensor:
    """Returns second moments in fp32; where numbers exist, the arguments are those of `read_mean`."""
    found = tl.load(kept + place, mask=inside, other=0)
    if kept.dtype.element_ty == tl.int16:
        found = (found.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    elif kept.dtype.element_ty == tl.uint8:
        bits = (found.to(tl.int32) + _ROOT_SHIFT) << _ROOT_DROPS
        root = _scaled(bits.to(tl.float32, bitcast=True), scales, blocks, LENGTH)
        found = tl.where(inside, root * root, 0.0)  # the code of the smallest root is 0
    return found


@triton.jit  # type: ignore[untyped-decorator]
def write_mean(
    kept: tl.tensor,
    place: tl.tensor,
    inside: tl.tensor,
    scales: tl.tensor,
    blocks: int,
    mean: tl.tensor,
    words: tl.tensor,
    LENGTH: tl.constexpr,
) -> None:
    """Stores first moments, in fp32, rounded by their random words, int32; for the other arguments see `read_mean`."""
    if kept.dtype.element_ty == tl.int16:
        tl.store(kept + place, _rounded(mean, words & 0xFFFF, 16).to(tl.int16), mask=inside)
    elif kept.dtype.element_ty == tl.uint8:
        mean = _divided(mean, scales, blocks, LENGTH)
        sign = (mean.to(tl.int32, bitcast=True) >> 24) & 128
        code = tl.maximum(_rounded(tl.abs(mean), words & 0xFFFF, _MEAN_DROPS) - _MEAN_SHIFT, 0)
        tl.store(kept + place, (code | sign).to(tl.uint8), mask=inside)
    else:
        tl.store(kept + place, mean, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def write_square(
    kept: tl.tensor,
    place: tl.tensor,
    inside: tl.tensor,
    scales: tl.tensor,
    blocks: int,
    square: tl.tensor,
    words: tl.tensor,
    LENGTH: tl.constexpr,
) -> None:
    """Stores second moments; the arguments are those of `write_mean`."""
    if kept.dtype.element_ty == tl.int16:
        tl.store(kept + place, _rounded(square, (words >> 16) & 0xFFFF, 16).to(tl.int16), mask=inside)
    elif kept.dtype.element_ty == tl.uint8:
        root = _divided(tl.sqrt_rn(tl.maximum(square, _TINY_SCALE)), scales, blocks, LENGTH)
        code = tl.maximum(_rounded(root, (words >> 16) & 0xFFFF, _ROOT_DROPS) - _ROOT_SHIFT, 0)
        tl.store(kept + place, code.to(tl.uint8), mask=inside)
    else:
        tl.store(kept + place, square, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def stepped(
    numbers: tl.tensor,
    mean: tl.tensor,
    square: tl.tensor,
    rate: float,
    root: float,
    eps: float,
) -> tl.tensor:
    """Returns numbers after a step of Adam, given their updated moments."""
    return numbers - rate * mean / (tl.sqrt(square) * root + eps)


@triton.jit  # type: ignore[untyped-decorator]
def adam(
    numbers: tl.tensor,
    gradient: tl.tensor,
    means: tl.tensor,
    squares: tl.tensor,
    mean_scales: tl.tensor,
    square_scales: tl.tensor,
    words: tl.tensor,
    place: tl.tensor,
    inside: tl.tensor,
    blocks: int,
    rate: float,
    beta1: float,
    rest1: float,
    beta2: float,
    rest2: float,
    root: float,
    eps: float,
    LENGTH: tl.constexpr,
) -> tl.tensor:
    """Updates the moments of a row, and returns its updated numbers, 0 outside.

    The step is made with the moments before they are rounded.
    """
    mean = read_mean(means, place, inside, mean_scales, blocks, LENGTH) * beta1 + gradient * rest1
    square = read_square(squares, place, inside, square_scales, blocks, LENGTH) * beta2 + gradient * gradient * rest2
    write_mean(means, place, inside, mean_scales, blocks, mean, words, LENGTH)
    write_square(squares, place, inside, square_scales, blocks, square, words, LENGTH)
    return tl.where(inside, stepped(numbers, mean, square, rate, root, eps), 0.0)


@triton.jit  # type: ignore[untyped-decorator]
def rounding_words(
    row_words: tl.tensor, column_words: tl.tensor, row: tl.tensor, column: tl.tensor, inside: tl.tensor
) -> tl.tensor:
    """Returns the random words of a row; any numbers where moments are in fp32 and need none."""
    if row_words.dtype.element_ty == tl.int32:
        return tl.load(column_words + column, mask=inside, other=0) + tl.load(row_words + row)
    return column


def operands_of(moments: KeptMoments) -> list[Tensor]:
    """Returns mean, square, their scales, row words and column words as a kernel takes them.

    What the format has not is there as the mean, which a kernel then neither reads nor writes as such.
    """
    narrow = moments.mean.dtype == torch.bfloat16
    numbers = [kept.view(torch.int16) if narrow else kept for kept in (moments.mean, moments.square)]
    rest = (moments.mean_scale, moments.square_scale, moments.row_words, moments.column_words)
    return numbers + [numbers[0] if tensor is None else tensor for tensor in rest]


def layout_of(moments: KeptMoments) -> tuple[int, int, int]:
    """Returns how a program holds a row: numbers of a block, entries of a block, entries of all.

    Entry `i` is number `i % entries` of block `i // entries`; moments that are not in 8 bits have one block.
    """
    width = moments.mean.shape[1]
    length = width if moments.mean_scale is None else block_length(width)
    entries = triton.next_power_of_2(length)
    if moments.mean_scale is None:
        entries = max(entries, 16)
    return length, entries, max(entries * triton.next_power_of_2(width // length), 16)
