"""Mutual Choice from a stream equals the plain statement, whatever bound the last batch has left."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import Matches, MutualSelector, mutual_choice
from distsae.errors import NonFiniteScores
from tests.allocation.samples import Watched, assert_same, cases, modest, run, scores


@modest
@given(cases(), st.one_of(st.integers(1, 20), st.floats(0.05, 20)))
def test_equals_the_plain_statement_batch_after_batch(case, k):
    selector = MutualSelector(k)
    budget = round(k * case.tokens)
    for batch in case.batches:
        (found,) = run([selector], batch, case.chunk)
        assert_same(found, mutual_choice(batch, budget))
        positive = int((batch > 0).sum())
        assert len(found) == min(budget, positive)
        assert selector.shortfall == budget - len(found)
        full = budget and positive >= budget
        assert selector.cut == (found.score.min().item() if full else None)


@modest
@given(cases(), st.integers(1, 8), st.data())
def test_only_allowed_features(case, k, data):
    allowed = torch.tensor(data.draw(st.lists(st.booleans(), min_size=case.features, max_size=case.features)))
    selector = MutualSelector(k, allowed)
    for batch in case.batches:
        (found,) = run([selector], batch, case.chunk)
        assert_same(found, mutual_choice(batch.masked_fill(~allowed, 0.0), k * case.tokens))


@modest
@given(cases(), st.integers(1, 8), st.integers(1, 8))
def test_two_selectors_share_a_pass(case, k, k_of_second):
    """If one of them asks for a second pass, the matches of the other stay the same."""
    allowed = torch.arange(case.features) % 2 == 0
    selectors = [MutualSelector(k), MutualSelector(k_of_second, allowed)]
    for batch in case.batches:
        first, second = run(selectors, batch, case.chunk)
        assert_same(first, mutual_choice(batch, k * case.tokens))
        assert_same(second, mutual_choice(batch.masked_fill(~allowed, 0.0), k_of_second * case.tokens))


def test_a_bound_that_proves_too_high_costs_a_second_pass_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    selector = MutualSelector(4)
    loud, quiet = (scores("normal", 16, 32, generator) * scale for scale in (100.0, 1.0))
    run([selector], loud, 8)
    assert selector.second_passes == 0
    (found,) = run([selector], quiet, 8)
    assert selector.second_passes == 1
    assert_same(found, mutual_choice(quiet, 64))
    run([selector], quiet, 8)
    assert selector.second_passes == 1


@modest
@given(cases(), st.integers(1, 8), st.one_of(st.none(), st.floats(2.0**-40, 2.0**40, width=32)))
def test_no_forecast_changes_the_selection(case, k, cut):
    selector = MutualSelector(k)
    selector.restore_forecast({"cut": cut})
    for batch in case.batches:
        (found,) = run([selector], batch, case.chunk)
        assert_same(found, mutual_choice(batch, k * case.tokens))
    resumed = MutualSelector(k)
    resumed.restore_forecast(selector.forecast())
    assert resumed.forecast() == selector.forecast()
    assert selector.forecast()["cut"] == selector.cut


def test_candidates_never_exceed_twice_the_budget_and_a_chunk():
    """Memory grows with matches, not with tokens x features."""
    watched = Watched(MutualSelector(2))
    run([watched], torch.rand(16, 512, generator=torch.Generator().manual_seed(0)) + 1, 8)
    assert 0 < max(watched.held) <= 2 * 32


def test_no_budget_selects_nothing():
    (found,) = run([MutualSelector(0.1)], torch.rand(4, 6) + 1e30, 2)
    assert len(found) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_scores_are_refused(bad):
    batch = torch.randn(5, 7)
    batch[2, 3] = bad
    with pytest.raises(NonFiniteScores, match="1 scores are not finite, the first of them on rank 0"):
        run([MutualSelector(2)], batch, 3)


def test_finite_scores_whose_sum_overflows_are_selected():
    batch = torch.full((4, 4), 3e38)
    (found,) = run([MutualSelector(1)], batch, 2)
    assert_same(found, mutual_choice(batch, 4))


def test_an_example_by_hand():
    (found,) = run([MutualSelector(1)], torch.tensor([[3.0, 1.0], [2.0, 5.0]]), 1)
    assert isinstance(found, Matches)
    assert (found.token.tolist(), found.feature.tolist(), found.score.tolist()) == ([0, 1], [0, 1], [3.0, 5.0])
