"""Feature Choice from a stream equals the plain statement, whatever bounds the last batch left behind."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import FeatureSelector, MutualSelector, feature_choice, mutual_choice
from distsae.errors import NonFiniteScores

from .samples import assert_same, cases, modest, run


@modest
@given(cases(), st.data())
def test_equals_the_plain_statement_batch_after_batch(case, data):
    selector = FeatureSelector(case.features)
    for batch in case.batches:
        quotas = torch.tensor(
            data.draw(st.lists(st.integers(0, case.tokens + 1), min_size=case.features, max_size=case.features))
        )
        selector.grant(quotas)
        (found,) = run([selector], batch, case.chunk)
        expected = feature_choice(batch, quotas)
        assert_same(found, expected)
        positive = (batch > 0).sum(0)
        assert torch.equal(torch.bincount(found.feature, minlength=case.features), torch.minimum(quotas, positive))
        assert selector.shortfall == int(quotas.sum()) - len(found)
        for feature in range(case.features):
            selected = expected.score[expected.feature == feature]
            if len(selected):
                assert selector.cuts[feature] == selected.min()
            else:
                assert selector.cuts[feature].isnan()


@modest
@given(cases(), st.integers(1, 8))
def test_beside_a_selector_that_asks_for_a_second_pass(case, k):
    selectors = [FeatureSelector(case.features), MutualSelector(k)]
    quotas = torch.arange(case.features) % 3
    for batch in case.batches:
        selectors[0].grant(quotas)
        first, second = run(selectors, batch, case.chunk)
        assert_same(first, feature_choice(batch, quotas))
        assert_same(second, mutual_choice(batch, k * case.tokens))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_scores_are_refused(bad):
    batch = torch.randn(5, 7)
    batch[2, 3] = bad
    selector = FeatureSelector(7)
    selector.grant(torch.ones(7, dtype=torch.long))
    with pytest.raises(NonFiniteScores, match="1 scores are not finite, the first of them on rank 0"):
        run([selector], batch, 3)
