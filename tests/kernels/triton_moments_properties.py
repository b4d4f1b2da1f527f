"""Moments as a kernel of a GPU reads and writes them have the bits of the plain ones: on a GPU, or in the interpreter.

`test_triton_moments.py` runs it in a process of its own: Triton reads `TRITON_INTERPRET` only when it is imported.
"""

import pytest
import torch
import triton
import triton.language as tl

from distsae.kernels import moments_of
from distsae.kernels.triton_moments import (
    layout_of,
    operands_of,
    read_mean,
    read_square,
    rounding_words,
    write_mean,
    write_square,
)

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ROWS = 5
EVERY = slice(None)
WIDTHS = (1, 5, 16, 192, 257, 384, 768)
"""In 8 bits, blocks of 1, 5, 16, 192, 1, 192 and 256 numbers."""


@triton.jit
def _exchange(
    means,
    squares,
    mean_scales,
    square_scales,
    row_words,
    column_words,
    new_means,
    new_squares,
    old_means,
    old_squares,
    width,
    length,
    LENGTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Copies the moments of a row to `old_*`, and stores others in their place."""
    row = tl.program_id(0).to(tl.int64)
    entry = tl.arange(0, BLOCK)
    column = entry // LENGTH * length + entry % LENGTH
    inside = (entry % LENGTH < length) & (column < width)
    place = row * width + column
    blocks = width // length
    mean_scale, square_scale = mean_scales + row * blocks, square_scales + row * blocks
    tl.store(old_means + place, read_mean(means, place, inside, mean_scale, blocks, LENGTH), mask=inside)
    tl.store(old_squares + place, read_square(squares, place, inside, square_scale, blocks, LENGTH), mask=inside)
    words = rounding_words(row_words, column_words, row, column, inside)
    mean = tl.load(new_means + place, mask=inside, other=0)
    square = tl.load(new_squares + place, mask=inside, other=0)
    write_mean(means, place, inside, mean_scale, blocks, mean, words, LENGTH)
    write_square(squares, place, inside, square_scale, blocks, square, words, LENGTH)


def _numbers(width, seed):
    """Moments whose sizes vary within a row, with zeros, a row of zeros, and one number far above the others."""
    generator = torch.Generator().manual_seed(seed)
    size = 10 ** (4 * torch.rand(ROWS, width, generator=generator) - 8)
    mean = torch.randn(ROWS, width, generator=generator) * size
    mean[torch.rand(ROWS, width, generator=generator) < 0.2] = 0
    mean[1] = 0
    mean[2, width // 2] = 1e3
    mean[3] *= 1e-35
    return mean.to(DEVICE), (mean * 1.1).square().to(DEVICE)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["fp32", "bf16", "int8"])
def test_the_bits_are_those_of_the_plain_moments(kind, width):
    plain, found = (moments_of("W", torch.zeros(ROWS, width, device=DEVICE), kind, 7, 3) for _ in range(2))
    for step in (1, 2, 3):
        mean, square = _numbers(width, step)
        before = plain.kept(step).read()
        old = torch.full((2, ROWS, width), torch.nan, device=DEVICE)
        kept = found.kept(step)
        length, entries, block = layout_of(kept)
        _exchange[(ROWS,)](*operands_of(kept), mean, square, old[0], old[1], width, length, entries, block)
        assert all(torch.equal(*pair) for pair in zip(before, old, strict=True)), step
        if kind == "fp32":
            for live, new in zip(plain.read(EVERY), (mean, square), strict=True):
                live.copy_(new)
        plain.write(EVERY, mean.clone(), square.clone(), step)
        for name, tensor in plain.tensors().items():
            assert torch.equal(found.tensors()[name], tensor), (name, step)
