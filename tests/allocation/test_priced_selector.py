"""Feature Choice by prices from a stream equals the plain statement, whatever the prices and the last batch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import MutualSelector, PricedSelector, mutual_choice, priced_choice
from distsae.errors import NonFiniteScores, WrongInput
from tests.allocation.samples import assert_same, cases, modest, run, scores


@st.composite
def prices(draw, features):
    """Prices of a few or of many orders of magnitude, some of them equal."""
    spread = draw(st.sampled_from([0.0, 1.0, 20.0]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    return torch.exp2(spread * (torch.rand(features, generator=generator, dtype=torch.float64) - 0.5).round(decimals=2))


@modest
@given(cases(), st.one_of(st.integers(1, 20), st.floats(0.05, 20)), st.data())
def test_equals_the_plain_statement_batch_after_batch(case, k, data):
    price = torch.ones(case.features, dtype=torch.float64)
    selector = PricedSelector(k, price)
    budget = round(k * case.tokens)
    for batch in case.batches:
        price.copy_(data.draw(prices(case.features)))  # they move between batches
        (found,) = run([selector], batch, case.chunk)
        expected = priced_choice(batch, price, budget)
        assert_same(found, expected)
        assert found.score.dtype == torch.float32
        assert selector.shortfall == budget - len(found)
        if selector.cut is not None:  # what was selected reaches its feature's threshold, but for rounding
            assert (found.score >= selector.cuts[found.feature] * (1 - 1e-6) - 1e-43).all()


@modest
@given(cases(), st.integers(1, 8))
def test_equal_prices_are_mutual_choice(case, k):
    selector = PricedSelector(k, torch.full((case.features,), 0.5, dtype=torch.float64))  # doubles are exact
    for batch in case.batches:
        (found,) = run([selector], batch, case.chunk)
        assert_same(found, mutual_choice(batch, k * case.tokens))


def test_a_cheaper_feature_gets_more_of_the_budget():
    x = scores("normal", 64, 8, torch.Generator().manual_seed(0))
    price = torch.ones(8, dtype=torch.float64)
    (before,) = run([PricedSelector(2, price)], x, 8)
    price[3] = 0.25
    (after,) = run([PricedSelector(2, price)], x, 8)
    assert len(before) == len(after) == 128
    assert int((after.feature == 3).sum()) > int((before.feature == 3).sum())
    assert (after.feature.bincount(minlength=8) <= before.feature.bincount(minlength=8))[[0, 1, 2, 4, 5, 6, 7]].all()


def test_forecast_and_budget_are_those_of_mutual_choice():
    x = scores("normal", 16, 8, torch.Generator().manual_seed(0))
    selector, other = PricedSelector(9, torch.ones(8, dtype=torch.float64)), MutualSelector(2)
    assert selector.set_budget(2) == 2
    for one in (selector, other):
        run([one], x, 3)
    assert selector.forecast() == other.forecast()
    resumed = PricedSelector(2, torch.ones(8, dtype=torch.float64))
    resumed.restore_forecast(selector.forecast())
    assert resumed.forecast() == selector.forecast()
    assert PricedSelector(2, torch.ones(8, dtype=torch.float64)).cuts is None


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_score_that_is_not_finite_is_refused(value):
    x = torch.ones(4, 6)
    x[2, 5] = value
    with pytest.raises(NonFiniteScores):
        run([PricedSelector(1, torch.ones(6, dtype=torch.float64))], x, 4)


def test_the_plain_statement_refuses_prices_that_are_none():
    for price in (torch.ones(5), torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.tensor([1.0, -2.0, 1.0, 1.0])):
        with pytest.raises(WrongInput, match="`price` must have one positive entry per feature"):
            priced_choice(torch.ones(2, 4), price, 3)
