"""Feature Choice with a fixed number of places: the same selection as without, and without its waits for a GPU."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distsae.allocation import ExactScores, FeatureSelector, Matches, Placement, feature_choice, select
from distsae.allocation.roomy_features import FeaturePlaces
from distsae.errors import NonFiniteScores
from tests.allocation.samples import KINDS, assert_same, cases, modest, scores
from tests.pretended_cuda import CUDA, LEDGER, pretended_cuda


@pytest.fixture(scope="module", autouse=True)
def device():
    with pretended_cuda():
        yield


class Searchable(ExactScores):
    """Scores of a batch that can be asked for any feature's, as those of a prefilter."""

    def __init__(self, columns, first, last):
        super().__init__(columns[first:last].contiguous())
        self.of_features = lambda features: ExactScores(columns[features])


def _run(selector, batch, chunk):
    columns = batch.to(CUDA).t().contiguous()
    features, tokens = columns.shape
    firsts = range(0, features, chunk)

    def chunks():
        return [(first, Searchable(columns, first, min(first + chunk, features))) for first in firsts]

    (found,) = select([selector], chunks, Placement.solo(features), tokens)
    return found


def _on_cpu(found):
    return Matches(found.token.cpu(), found.feature.cpu(), found.score.cpu())


def _check(selector, batch, quotas, chunk):
    selector.grant(quotas.to(CUDA))
    found = _on_cpu(_run(selector, batch, chunk))
    expected = feature_choice(batch, quotas)
    assert_same(found, expected)
    assert selector.shortfall == int(quotas.sum()) - len(found)
    cuts = selector.cuts.cpu()
    for feature in range(batch.shape[1]):
        selected = expected.score[expected.feature == feature]
        assert cuts[feature] == selected.min() if len(selected) else cuts[feature].isnan()


@modest
@given(cases(), st.data())
def test_equals_the_plain_statement_batch_after_batch(case, data):
    """Batches of one kind come twice, with other quotas: some bounds hold, some do not, some features have none."""
    selector = FeatureSelector(case.features)
    quota = st.integers(0, case.tokens + 1)
    for batch in [batch for batch in case.batches for _ in range(2)]:
        quotas = torch.tensor(data.draw(st.lists(quota, min_size=case.features, max_size=case.features)))
        _check(selector, batch, quotas, case.chunk)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(KINDS), st.integers(20, 90), st.integers(0, 999))
def test_equals_the_plain_statement_with_more_to_search_again_than_expected(kind, chunk, seed):
    generator = torch.Generator().manual_seed(seed)
    selector = FeatureSelector(180)
    for step in range(4):
        quotas = (torch.rand(180, generator=generator) < (0.1, 0.1, 0.9, 0.9)[step]) * (1 + 50 * (step == 3))
        _check(selector, scores(kind, 60, 180, generator), quotas, chunk)


def test_a_batch_waits_for_the_device_once_whatever_the_chunks():
    generator = torch.Generator().manual_seed(0)
    waits = {}
    for chunk in (8, 64):
        selector = FeatureSelector(256)
        for _ in range(6):
            selector.grant((torch.rand(256, generator=generator) * 4).long().to(CUDA))
            batch = scores("normal", 64, 256, generator)
            LEDGER.clear()
            _run(selector, batch, chunk)
            waits[chunk] = LEDGER.waits.total() - 1  # the batch is copied to the device
    assert waits == {8: 1, 64: 1}


def test_quotas_in_doubt_are_corrected_before_they_count():
    generator = torch.Generator().manual_seed(0)
    selector = FeatureSelector(64)
    right, wrong = torch.arange(64) % 3, torch.full((64,), 7)
    for step in range(5):
        batch = scores("normal", 32, 64, generator)
        in_doubt = torch.tensor(step in (1, 4)).to(CUDA)
        given_now = wrong if bool(in_doubt) else right
        asked = []
        selector.grant(given_now.to(CUDA), in_doubt, lambda asked=asked: asked.append(1) or right.to(CUDA))
        found = _on_cpu(_run(selector, batch, 16))
        assert_same(found, feature_choice(batch, right))
        assert len(asked) == int(in_doubt)


def test_places_that_would_be_too_many_are_not_used():
    places = FeaturePlaces()
    assert places.room(features=10**6, most=5000, tokens=8192, budget=10**5) is None  # nothing is known yet
    places.learn([1000, 800], lacking=3000, quota=5)
    room = places.room(features=10**6, most=5000, tokens=8192, budget=10**5)
    assert room.chunk == 1314
    assert room.features == 3814
    assert places.room(features=10**6, most=2000, tokens=8192, budget=10**5) is None
    assert places.room(features=10**6, most=5000, tokens=8192, budget=10**3) is None
    assert not places.fitted(room, [4000, 5, 10, 900], chunks=2, budget=10**5)
    assert places.room(features=10**6, most=10**4, tokens=8192, budget=10**5).features == 5064


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_scores_are_refused(bad):
    selector = FeatureSelector(7)
    selector.grant(torch.ones(7, dtype=torch.long, device=CUDA))
    for _ in range(2):
        _run(selector, torch.randn(5, 7), 3)
    batch = torch.randn(5, 7)
    batch[2, 3] = bad
    with pytest.raises(NonFiniteScores, match="1 scores are not finite, the first of them on rank 0"):
        _run(selector, batch, 3)
