"""Candidates in a fixed number of places: the same selection as without, on a pretended GPU, without its waits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import ExactScores, MutualSelector, mutual_choice
from distsae.allocation.roomy_candidates import PLACES_PER_MATCH, Places, RoomyCandidates
from distsae.allocation.scores import EMPTY
from tests.allocation.roomy_samples import run_there
from tests.allocation.samples import assert_same, cases, modest, run, scores
from tests.pretended_cuda import CUDA, LEDGER, pretended_cuda


@pytest.fixture(scope="module", autouse=True)
def device():
    with pretended_cuda():
        yield


@modest
@given(cases(), st.one_of(st.integers(1, 8), st.floats(0.05, 8)), st.data())
def test_equals_the_plain_statement_batch_after_batch(case, k, data):
    """Batches of one kind come twice, so that the second has a forecast that may hold."""
    allowed = torch.tensor(data.draw(st.lists(st.booleans(), min_size=case.features, max_size=case.features)))
    selectors = [MutualSelector(k), MutualSelector(k, allowed.to(CUDA))]
    budget = round(k * case.tokens)
    for batch in [batch for batch in case.batches for _ in range(2)]:
        found, found_among_allowed = run_there(selectors, batch, case.chunk)
        assert_same(found, mutual_choice(batch, budget))
        assert_same(found_among_allowed, mutual_choice(batch.masked_fill(~allowed, 0.0), budget))
        assert selectors[0].shortfall == budget - len(found)


def test_a_batch_with_a_forecast_waits_for_the_device_once_whatever_the_chunks():
    generator = torch.Generator().manual_seed(0)
    waits = {}
    for chunk in (8, 64):
        selector = MutualSelector(4)
        for _ in range(6):
            batch = scores("normal", 64, 256, generator).to(CUDA)
            LEDGER.clear()
            run([selector], batch, chunk)
            waits[chunk] = LEDGER.waits.total()
    assert waits == {8: 1, 64: 1}
    assert selector.second_passes <= 2


def test_candidates_that_do_not_fit_are_offered_again():
    """The second batch has far more scores above the bound than the first one."""
    few = torch.zeros(32, 64)
    few[0] = 1.0
    many = torch.linspace(0.95, 1.05, 32 * 64).view(32, 64)
    selector = MutualSelector(2)
    for batch in (few, few, many, many, few):
        (found,) = run_there([selector], batch, 16)
        assert_same(found, mutual_choice(batch, 64))
    assert selector.second_passes > 0


def test_places_are_limited_by_the_budget():
    places = Places()
    places.learn(1000)
    assert places.number == 1314
    places.grow(chunks=2, budget=1000)
    assert places.number == 4 * 1314
    places.grow(chunks=2, budget=1000)  # 32 places a match are not enough
    assert places.number == 0
    for _ in range(63):
        places.learn(1000)
        assert places.number == 0  # the next batches go without
    places.learn(1000)
    assert places.number == 1314
    places.learn(10)
    assert places.number == int(0.9 * 1314)
    assert PLACES_PER_MATCH * 1000 >= 2 * 4 * 1314


def test_places_that_stay_empty_have_the_score_zero():
    roomy = RoomyCandidates(tokens=2)
    for first in (0, 2):
        chunk = torch.tensor([[5.0, -1.0], [0.0, 2.0 + first]], device=CUDA)
        exact, bound = ExactScores(chunk), torch.ones(1, 1, device=CUDA)
        roomy.collect(first, exact, exact.cutoff(bound), bound, 3)
    found, keys = roomy.joined()
    assert found.tolist() == [5.0, 2.0, 0.0, 5.0, 4.0, 0.0]
    assert keys.tolist()[:2] + keys.tolist()[3:5] == [0, 3, 4, 7]
    assert min(keys.tolist()[2::3]) >= EMPTY
    assert roomy.places == [3, 3]
    assert roomy.filled().tolist() == [2, 2]
