"""The forecast surrounds the last cut, and bit patterns are ordered as the scores are."""

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
