"""Token Choice from a stream equals the plain statement."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import TokenSelector, token_choice
from distsae.errors import NonFiniteScores
from tests.allocation.samples import Watched, assert_same, cases, modest, run


@modest
@given(cases(), st.integers(1, 20))
def test_equals_the_plain_statement_batch_after_batch(case, k):
    selector = TokenSelector(k)
    for batch in case.batches:
        (found,) = run([selector], batch, case.chunk)
        assert_same(found, token_choice(batch, k))
        assert torch.equal(torch.bincount(found.token, minlength=case.tokens), (batch > 0).sum(1).clamp(max=k))
        assert selector.shortfall == k * case.tokens - len(found)


def test_candidates_are_trimmed_as_they_stream_in():
    """Rising scores are the worst case: every chunk has larger scores than all before it."""
    watched = Watched(TokenSelector(2))
    rising = torch.arange(1.0, 513.0).expand(4, 512)
    (found,) = run([watched], rising, 8)
    assert_same(found, token_choice(rising, 2))
    assert 0 < max(watched.held) <= 4 * 2 * 4


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_scores_are_refused(bad):
    batch = torch.randn(5, 7)
    batch[2, 3] = bad
    with pytest.raises(NonFiniteScores, match="1 scores are not finite, the first of them on rank 0"):
        run([TokenSelector(2)], batch, 3)
