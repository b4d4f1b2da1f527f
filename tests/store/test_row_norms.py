"""One definition of a row's norm, whatever surrounds the row, and bins whose edges decide as the norms do."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.store.row_norms import (
    ZERO_BIN,
    bin_numbers,
    first_bin_over,
    lower_edge,
    nearest_edge,
    row_norms,
    upper_edge,
)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("d_in", [1, 7, 576, 9001])
def test_a_norm_depends_on_the_row_alone(dtype, d_in):
    """Not on its place, its neighbours, the threads, or a wider dtype; 9001 values are more than NumPy's buffers."""
    rows = (torch.randn(300, d_in) * torch.randn(300, 1).exp()).to(dtype)
    norms = row_norms(rows)
    assert norms.dtype == torch.float64
    np.testing.assert_allclose(norms, np.linalg.norm(rows.double().numpy(), axis=1), rtol=1e-14)
    order = torch.randperm(300)
    assert torch.equal(row_norms(rows[order]), norms[order])
    assert torch.equal(torch.cat([row_norms(row[None]) for row in rows[:20]]), norms[:20])
    assert torch.equal(row_norms(rows.float()), norms)
    assert torch.equal(row_norms(rows.double()), norms)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert torch.equal(row_norms(rows), norms)
    finally:
        torch.set_num_threads(threads)


def test_of_no_rows_and_of_the_largest_ones():
    assert row_norms(torch.empty(0, 4)).shape == (0,)
    assert row_norms(torch.full((1, 4), 65504.0, dtype=torch.float16)).tolist() == [131008.0]
    largest = torch.full((1, 4), torch.finfo(torch.float32).max)
    assert row_norms(largest).item() == pytest.approx(2 * torch.finfo(torch.float32).max)


@given(st.floats(1e-44, 1e44))
def test_a_norm_is_in_the_bin_between_its_edges(norm):
    (number,) = bin_numbers(np.array([norm])).tolist()
    assert lower_edge(number) < norm <= upper_edge(number)


@given(st.integers(-2000, 2000))
def test_edges_belong_to_the_bin_below_them(number):
    edge = lower_edge(number)
    assert edge == pytest.approx(2 ** (number / 16), rel=1e-15)
    above = math.nextafter(edge, math.inf)
    assert bin_numbers(np.array([edge, above])).tolist() == [number - 1, number]
    assert first_bin_over(edge) == number  # so a norm is at most the edge if its bin is below this one
    assert nearest_edge(edge) == edge


@given(st.floats(1e-30, 1e30))
def test_the_nearest_edge_is_the_nearest_in_log_terms(norm):
    assert abs(math.log2(nearest_edge(norm)) - math.log2(norm)) <= 1 / 32 + 1e-12


def test_octaves_begin_at_powers_of_two_and_zero_has_its_own_bin():
    assert [lower_edge(number) for number in (-16, 0, 16, 32)] == [0.5, 1.0, 2.0, 4.0]
    assert bin_numbers(np.array([0.0, 1e-300])).tolist()[0] == ZERO_BIN
    assert bin_numbers(np.array([1e-300]))[0] > ZERO_BIN
    assert (lower_edge(ZERO_BIN), upper_edge(ZERO_BIN)) == (0.0, 0.0)
