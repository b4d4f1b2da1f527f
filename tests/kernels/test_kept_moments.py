"""Moments as they are kept: what is read is what was written, rounded to a neighbour, in any number of rows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.kernels import KeptMoments, moments_of
from distsae.kernels.kept_moments import block_length


@given(st.integers(1, 3000))
def test_a_block_is_the_largest_that_divides_a_row(d_in):
    length = block_length(d_in)
    assert 1 <= length <= 256
    assert d_in % length == 0
    assert not [size for size in range(length + 1, 257) if d_in % size == 0]


def test_unrounded_moments_are_live_and_nothing_is_written():
    kept = KeptMoments(torch.zeros(3, 2), torch.ones(3, 2))
    mean, square = kept.of(slice(1, 3)).read()
    mean += 1
    kept.write(torch.full((3, 2), 7.0), square)
    assert kept.mean.tolist() == [[0, 0], [1, 1], [1, 1]]


@pytest.mark.parametrize(("kind", "gap"), [("bf16", 2**-7), ("int8", 2**-3)])
@pytest.mark.parametrize("d_in", [1, 6, 300])
def test_what_is_read_is_a_neighbour_of_what_was_written(kind, gap, d_in):
    mean = torch.randn(4, d_in, generator=torch.Generator().manual_seed(d_in))
    square = (1 + mean.abs()).square()
    kept = moments_of("W", mean, kind, 0, 0).kept(1)
    kept.write(mean.clone(), square.clone())
    found_mean, found_square = kept.read()
    largest = mean.abs().amax(1, keepdim=True)
    assert ((found_mean - mean).abs() <= gap * mean.abs() + largest * 2**-13).all()
    assert ((found_square.sqrt() - square.sqrt()).abs() <= gap * square.sqrt()).all()


@pytest.mark.parametrize("kind", ["bf16", "int8"])
def test_no_rows_are_no_trouble(kind):
    kept = moments_of("W", torch.zeros(2, 6), kind, 0, 0).kept(1).of(slice(1, 1))
    kept.write(torch.zeros(0, 6), torch.zeros(0, 6))
    assert all(part.shape == (0, 6) for part in kept.read())


@pytest.mark.parametrize("kind", ["bf16", "int8"])
def test_rounding_needs_its_random_words(kind):
    kept = moments_of("W", torch.zeros(2, 6), kind, 0, 0).kept(1)
    with pytest.raises(AssertionError):
        KeptMoments(kept.mean, kept.square, kept.mean_scale, kept.square_scale).write(kept.mean, kept.square)
