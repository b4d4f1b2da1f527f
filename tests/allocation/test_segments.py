"""The sort and the searches that the selectors are built on."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import FeatureSelector, MutualSelector, TokenSelector
from distsae.allocation.segments import (
    SegmentOrder,
    just_below,
    largest_per_segment,
    ranked,
    smallest_per_segment,
    true_indices,
)
from tests.allocation.samples import modest, run


@modest
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), max_size=40), st.data())
def test_largest_per_segment(candidates, data):
    quotas = data.draw(st.lists(st.integers(0, 6), min_size=5, max_size=5))
    expected = []
    for segment, quota in enumerate(quotas):
        inside = [i for i, candidate in enumerate(candidates) if candidate[0] == segment]
        expected += sorted(inside, key=lambda i: (-candidates[i][1], i))[:quota]
    segments = torch.tensor([segment for segment, _ in candidates], dtype=torch.long)
    values = torch.tensor([float(score) for _, score in candidates])
    assert largest_per_segment(segments, values, torch.tensor(quotas)).tolist() == sorted(expected)


@modest
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40), st.integers(1, 6))
def test_candidates_that_are_not_there_do_not_count(candidates, quota):
    segment = torch.tensor([segment for segment, _ in candidates])
    score = torch.tensor([float(score) for _, score in candidates])
    ordered = SegmentOrder(segment, score, 5)
    there = ordered.positive()
    assert torch.equal(there, score[ordered.order] > 0)
    assert torch.equal(ordered.segment(), segment[ordered.order])
    kept = score > 0
    order, rank = ranked(segment[kept], score[kept], 5)
    assert torch.equal(ordered.order[there], kept.nonzero().squeeze(1)[order])
    assert torch.equal(ordered.rank()[there], rank)
    assert torch.equal(ordered.sizes(), torch.bincount(segment, minlength=5))
    for each, found in enumerate(ordered.smallest_of_first(quota).tolist()):
        inside = sorted((value for at, value in candidates if at == each), reverse=True)
        assert found == (inside[quota - 1] if len(inside) >= quota else 0)


def test_smallest_per_segment():
    segment = torch.tensor([3, 0, 3, 0, 3])
    score = torch.tensor([2.0, 5.0, 0.5, 4.0, 1.0])
    assert smallest_per_segment(segment, score, 5).tolist() == [4.0, torch.inf, torch.inf, 0.5, torch.inf]
    assert smallest_per_segment(segment, score.double(), 4).dtype == torch.float64


@modest
@given(st.integers(0, 70), st.floats(0, 1), st.integers(0, 2**32))
def test_true_indices(size, share, seed):
    mask = torch.rand(size, generator=torch.Generator().manual_seed(seed)) < share
    assert torch.equal(true_indices(mask), mask.nonzero().squeeze(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_just_below(dtype):
    tiny = torch.finfo(dtype).tiny
    values = torch.tensor([-1.0, -0.0, 0.0, tiny / 8, tiny, 0.1, 1.0, 3e38], dtype=dtype)
    for bound in values:
        assert torch.equal(values > just_below(bound), (values >= bound) & (values > 0))


@pytest.fixture
def flushed_denormals():
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormal numbers")
    yield
    torch.set_flush_denormal(False)


def test_zeros_are_not_positive_where_subnormal_numbers_are_flushed(flushed_denormals):
    features = FeatureSelector(9)
    features.grant(torch.ones(9, dtype=torch.long))
    for selector in (TokenSelector(2), MutualSelector(2), features):
        (found,) = run([selector], torch.zeros(4, 9), 4)
        assert len(found) == 0
