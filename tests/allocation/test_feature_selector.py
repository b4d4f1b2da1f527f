"""Feature Choice from a stream equals the plain statement, whatever bounds the last batch has left."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distsae.allocation import (
    ExactScores,
    FeatureSelector,
    MutualSelector,
    Placement,
    feature_choice,
    mutual_choice,
    select,
)
from distsae.errors import NonFiniteScores
from tests.allocation.samples import KINDS, assert_same, cases, modest, run, scores


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
    feature = FeatureSelector(case.features)
    selectors = [feature, MutualSelector(k)]
    quotas = torch.arange(case.features) % 3
    for batch in case.batches:
        feature.grant(quotas)
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


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(KINDS), st.integers(1024, 2300), st.integers(0, 2**32), st.booleans())
def test_a_first_bound_guessed_from_a_sample_of_tokens_changes_nothing(kind, tokens, seed, loud_sample):
    generator = torch.Generator().manual_seed(seed)
    batch = scores(kind, tokens, 9, generator)
    if loud_sample:  # the sample misleads: nothing else is as large
        batch[:: tokens // 256] += 5.0
    quotas = torch.tensor([0, 1, 2, 30, 300, tokens // 2, tokens - 1, tokens, tokens + 5])
    selector = FeatureSelector(9)
    for _ in range(2):
        selector.grant(quotas)
        (found,) = run([selector], batch, 4)
        assert_same(found, feature_choice(batch, quotas))


class _Counted(ExactScores):
    """Scores that count the candidates they were asked for."""

    candidates = 0

    def above(self, bound, rows=None, most=None):
        flat, score = super().above(bound, rows, most)
        self.candidates += flat.numel()
        return flat, score


def test_a_feature_without_a_bound_is_not_sought_among_all_its_positive_scores():
    batch = torch.randn(4096, 64, generator=torch.Generator().manual_seed(0))
    scores = _Counted(batch.t().contiguous())
    selector = FeatureSelector(64)
    selector.grant(torch.full((64,), 2))
    (found,) = select([selector], lambda: [(0, scores)], Placement.solo(64), 4096)
    assert len(found) == 2 * 64
    assert scores.candidates < 0.1 * int((batch > 0).sum())
