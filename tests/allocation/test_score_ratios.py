"""Ratios answer a selector's questions as if they had been computed one by one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import ExactScores, ScoreRatios
from distsae.allocation.scores import EMPTY
from tests.allocation.samples import KINDS, modest, scores


def _chunk(kind, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = scores(kind, 9, 7, generator).t().contiguous()
    divisors = torch.exp2(6 * torch.rand(7, 1, generator=generator) - 3).to(dtype)
    return x, divisors, ScoreRatios(ExactScores(x), divisors)


@modest
@given(st.sampled_from(KINDS), st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 1.0, 3.0]))
def test_ratios_above_a_bound(kind, seed, bound):
    x, divisors, ratios = _chunk(kind, seed)
    exact = x / divisors
    expected = ((exact.float() >= bound) & (exact.float() > 0)).reshape(-1).nonzero().squeeze(1)
    flat, found = ratios.above(torch.full((1, 1), bound))
    assert torch.equal(flat, expected)
    assert torch.equal(found, exact.reshape(-1)[expected])
    assert torch.equal((found * divisors.squeeze(1)[flat // 9]).float(), x.reshape(-1)[flat])  # the score again
    rows = torch.tensor([1, 4, 6])
    in_rows = torch.isin(expected // 9, rows)
    assert torch.equal(ratios.above(torch.full((1, 1), bound), rows)[0], expected[in_rows])


@modest
@given(st.sampled_from(KINDS), st.integers(0, 2**32), st.sampled_from([0.1, 1.0]), st.integers(1, 70))
def test_ratios_in_a_fixed_number_of_places(kind, seed, bound, places):
    _, _, ratios = _chunk(kind, seed)
    expected, ratio = ratios.above(torch.full((1, 1), bound))
    least = torch.full((1, 1), bound)
    flat, found = ratios.within(ratios.cutoff(least), least, places)
    filled = (flat < EMPTY).sum()
    if int(filled) < places:
        taken = found > 0
        assert torch.equal(flat[taken], expected)
        assert torch.equal(found[taken], ratio)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_infinite_divisor_leaves_a_feature_out(dtype):
    x, divisors, _ = _chunk("normal", 0, dtype)
    divisors[2] = torch.inf
    flat, found = ScoreRatios(ExactScores(x), divisors).above(torch.zeros(1, 1))
    assert 2 not in flat // 9
    assert found.dtype == dtype


def test_samples_and_counts():
    x, divisors, ratios = _chunk("normal", 0)
    rows = torch.tensor([0, 5])
    torch.testing.assert_close(ratios.sample(rows, 2), x[rows, ::2] / divisors[rows].float())
    assert ratios.shape == (7, 9)
    assert ratios.non_finite() == 0
    assert torch.equal(ratios.leading(2), torch.zeros(9))
