"""The sort and the search that the selectors are built on."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation.segments import largest_per_segment, true_indices

from .samples import modest


@modest
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-2, 3)), max_size=40), st.data())
def test_largest_per_segment(candidates, data):
    quotas = data.draw(st.lists(st.integers(0, 6), min_size=5, max_size=5))
    expected = []
    for segment, quota in enumerate(quotas):
        mine = [i for i, candidate in enumerate(candidates) if candidate[0] == segment]
        expected += sorted(mine, key=lambda i: (-candidates[i][1], i))[:quota]
    segments = torch.tensor([segment for segment, _ in candidates], dtype=torch.long)
    values = torch.tensor([float(score) for _, score in candidates])
    assert largest_per_segment(segments, values, torch.tensor(quotas)).tolist() == sorted(expected)


@modest
@given(st.integers(0, 70), st.floats(0, 1), st.integers(0, 2**32))
def test_true_indices(size, share, seed):
    mask = torch.rand(size, generator=torch.Generator().manual_seed(seed)) < share
    assert torch.equal(true_indices(mask), mask.nonzero().squeeze(1))
