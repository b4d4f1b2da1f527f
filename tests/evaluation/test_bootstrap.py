import math

import numpy as np
import pytest

from distsae.evaluation.bootstrap import Bootstrap, Estimate


def mean(sums):
    return sums["value"] / sums["rows"]


def sums_of(contexts: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"value": rng.normal(10.0, 2.0, contexts), "rows": np.ones(contexts)}


def test_value_is_the_plain_statistic_and_the_interval_is_the_normal_one():
    sums = sums_of(400)
    estimate = Bootstrap(400, seed=0).estimate(mean, sums)
    assert estimate.value == pytest.approx(sums["value"].mean(), rel=1e-12)
    half = 1.96 * sums["value"].std() / 20
    assert estimate.low == pytest.approx(estimate.value - half, abs=0.2 * half)
    assert estimate.high == pytest.approx(estimate.value + half, abs=0.2 * half)


def test_contexts_are_resampled_not_rows():
    # Rows of a context are drawn together, so ten copies of each row must not narrow the interval.
    sums = sums_of(100)
    copied = {"value": 10 * sums["value"], "rows": 10 * sums["rows"]}
    plain, repeated = (Bootstrap(100, seed=0).estimate(mean, part) for part in (sums, copied))
    assert (plain.low, plain.high) == pytest.approx((repeated.low, repeated.high))


def test_same_seed_same_interval():
    sums = sums_of(50)
    first, again, other = (Bootstrap(50, seed=seed).estimate(mean, sums) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_wide_sums_are_resampled_together():
    rng = np.random.default_rng(0)
    sums = {"centred": rng.normal(size=(30, 5)), "rows": np.ones(30)}

    def norm(drawn):
        return np.square(drawn["centred"]).sum(-1) / drawn["rows"]

    estimate = Bootstrap(30, seed=0, resamples=150).estimate(norm, sums)
    assert estimate.low <= estimate.high
    assert estimate.value == pytest.approx(np.square(sums["centred"].sum(0)).sum() / 30)


def test_a_single_context_has_no_interval():
    estimate = Bootstrap(1, seed=0).estimate(mean, sums_of(1))
    assert math.isfinite(estimate.value)
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


def test_undefined_stays_undefined():
    estimate = Bootstrap(3, seed=0).estimate(lambda sums: np.full(len(sums["rows"]), np.nan), {"rows": np.ones(3)})
    assert np.isnan([estimate.value, estimate.low, estimate.high]).all()


def test_draws_are_those_of_the_estimates():
    sums = sums_of(40)
    bootstrap = Bootstrap(40, seed=0, resamples=60)
    drawn = np.array([(counts * sums["value"]).sum() / counts.sum() for counts in bootstrap.draws(60)])
    by_hand, estimate = Estimate.of(0.0, drawn), bootstrap.estimate(mean, sums)
    assert (by_hand.low, by_hand.high) == pytest.approx((estimate.low, estimate.high), rel=1e-12)
    assert all(counts.sum() == 40 for counts in bootstrap.draws(60))
    assert len(list(bootstrap.draws(7))) == 7


def test_resamples_that_are_not_finite_do_not_count():
    estimate = Estimate.of(1.0, np.array([np.nan, 0.0, np.inf, 2.0]))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((1.0, 0.05, 1.95))
