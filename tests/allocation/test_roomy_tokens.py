"""Token Choice with a fixed number of places: the same selection as without, on a pretended GPU, without its waits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distsae.allocation import TokenSelector, token_choice
from distsae.errors import NonFiniteScores
from tests.allocation.roomy_samples import run_there
from tests.allocation.samples import assert_same, cases, modest, run, scores
from tests.pretended_cuda import CUDA, LEDGER, pretended_cuda


@pytest.fixture(scope="module", autouse=True)
def device():
    with pretended_cuda():
        yield


@modest
@given(cases(), st.integers(1, 20))
def test_equals_the_plain_statement_batch_after_batch(case, k):
    """Batches of one kind come twice, so that the second has places that may suffice."""
    selector = TokenSelector(k)
    for batch in [batch for batch in case.batches for _ in range(2)]:
        (found,) = run_there([selector], batch, case.chunk)
        assert_same(found, token_choice(batch, k))
        assert selector.shortfall == k * case.tokens - len(found)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["normal", "tied", "skewed", "equal", "signed zeros"]), st.integers(3, 40), st.integers(0, 999))
def test_equals_the_plain_statement_with_many_chunks(kind, chunk, seed):
    generator = torch.Generator().manual_seed(seed)
    selector = TokenSelector(3)
    for _ in range(3):
        batch = scores(kind, 16, 160, generator)
        (found,) = run_there([selector], batch, chunk)
        assert_same(found, token_choice(batch, 3))


def test_a_batch_waits_for_the_device_once_whatever_the_chunks():
    generator = torch.Generator().manual_seed(0)
    waits = {}
    for chunk in (8, 64):
        selector = TokenSelector(4)
        for _ in range(6):
            batch = scores("normal", 64, 256, generator).to(CUDA)
            LEDGER.clear()
            run([selector], batch, chunk)
            waits[chunk] = LEDGER.waits.total()
    assert waits == {8: 1, 64: 1}


def test_candidates_that_do_not_fit_are_offered_again():
    """The third batch rises from chunk to chunk, so that its bounds are of little use."""
    selector = TokenSelector(2)
    falling = torch.arange(512.0, 0.0, -1.0).expand(40, 512)
    for batch in (falling, falling, falling.flip(1), falling.flip(1), falling):
        (found,) = run_there([selector], batch, 16)
        assert_same(found, token_choice(batch, 2))


def test_batches_of_other_sizes_and_budgets():
    generator = torch.Generator().manual_seed(0)
    selector = TokenSelector(2)
    for tokens, chunk, k in ((8, 8, 2), (8, 8, 2), (24, 8, 5), (24, 4, 1), (8, 16, 1), (8, 16, 20), (8, 16, 2)):
        batch = scores("normal", tokens, 64, generator)
        selector.set_budget(k)
        (found,) = run_there([selector], batch, chunk)
        assert_same(found, token_choice(batch, k))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_scores_are_refused(bad):
    selector = TokenSelector(2)
    for _ in range(2):
        run_there([selector], torch.randn(5, 7), 3)
    batch = torch.randn(5, 7)
    batch[2, 3] = bad
    with pytest.raises(NonFiniteScores, match="1 scores are not finite, the first of them on rank 0"):
        run_there([selector], batch, 3)
