"""The forecast surrounds the last cut, and bit patterns are ordered as the scores are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation.cut_forecast import ALL_BITS, CutForecast, bits_of, score_of
from tests.allocation.samples import modest

positive = st.floats(2.0**-100, 2.0**100, width=32)


@modest
@given(positive, positive)
def test_bits_are_ordered_as_scores_and_give_them_back(first, second):
    assert (bits_of(first) < bits_of(second)) == (first < second)
    assert score_of(bits_of(first)) == first
    assert bits_of(0.0) == 0
    assert bits_of(float("inf")) < ALL_BITS


@modest
@given(positive)
def test_the_interval_surrounds_the_last_cut(cut):
    forecast = CutForecast()
    forecast.learn(cut)
    low, high = forecast.interval()
    assert low == bits_of(forecast.lower)
    assert low < bits_of(cut) < high
    assert 0.88 * cut < forecast.lower < 0.91 * cut


def test_there_is_no_forecast_before_the_first_cut_nor_after_a_batch_without_one():
    forecast = CutForecast()
    for _ in range(2):
        assert forecast.lower == 0
        assert forecast.interval() == (0, ALL_BITS)
        forecast.learn(1.0)
        assert forecast.lower > 0
        forecast.learn(None)


def test_the_reach_follows_recent_moves_of_the_cut():
    forecast = CutForecast()
    for _ in range(2):
        forecast.learn(1.0)
    assert forecast.reach == 0.1  # one move says little
    for _ in range(20):
        forecast.learn(1.0)
    assert forecast.reach == 0.02
    forecast.learn(1.02)
    assert 0.059 < forecast.reach < 0.061
    forecast.learn(None)
    forecast.learn(1.0)
    assert forecast.reach == 0.1


@modest
@given(st.lists(st.none() | positive, max_size=8))
def test_a_restored_forecast_is_the_same(cuts):
    forecast, restored = CutForecast(), CutForecast()
    for cut in cuts:
        forecast.learn(cut)
    restored.learn(3.0)
    restored.restore(forecast.state())
    assert restored.interval() == forecast.interval()
    assert restored.state() == forecast.state()
    forecast.learn(2.0)
    restored.learn(2.0)
    assert restored.interval() == forecast.interval()


@pytest.mark.parametrize("move", [{}, {"move": None}, {"move": float("nan")}, {"move": -1.0}, {"move": 5.0}])
def test_without_a_move_that_makes_sense_the_reach_is_the_widest(move):
    """Older checkpoints know the cut alone."""
    forecast = CutForecast()
    forecast.restore({"cut": 2.0} | move)
    assert (forecast.cut, forecast.reach) == (2.0, 0.1)


@pytest.mark.parametrize("cut", [None, 0.0, -1.0, float("nan"), float("inf")])
def test_a_cut_that_makes_no_sense_is_no_forecast(cut):
    forecast = CutForecast()
    forecast.restore({"cut": cut, "move": 0.01})
    assert forecast.lower == 0
