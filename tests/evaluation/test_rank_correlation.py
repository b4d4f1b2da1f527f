import numpy as np
import pytest
from scipy.stats import pearsonr, rankdata, spearmanr

from distsae.evaluation.bootstrap import Bootstrap
from distsae.evaluation.rank_correlation import RESAMPLES, rank_correlations

NAMES = ("loss", "frequency", "position", "norm", "difficulty", "loss_given_norm")


def rows(contexts=12, length=20, seed=0):
    """Rows with many ties, a norm that drives the features, and a loss that only follows the norm."""
    rng = np.random.default_rng(seed)
    count = contexts * length
    norm = rng.lognormal(0, 1, count)
    loss = np.log(norm) + rng.normal(0, 0.5, count)
    loss[length - 1 :: length] = np.nan
    return {
        "features": np.round(4 * np.log1p(norm) + rng.normal(0, 1, count)),
        "loss": loss,
        "frequency": rng.zipf(1.5, count).astype(float),
        "position": np.tile(np.arange(length), contexts).astype(float),
        "norm": norm,
        "difficulty": rng.uniform(0, 1, count) + 0.1 * np.log1p(norm),
        "context": np.repeat(np.arange(contexts), length),
    }


def found(numbers, seed=0):
    bootstrap = Bootstrap(int(numbers["context"].max()) + 1, seed)
    rest = {name: numbers[name] for name in numbers if name != "features"}
    return rank_correlations(numbers["features"], **rest, bootstrap=bootstrap)


def test_values_are_those_of_scipy():
    numbers = rows()
    has_loss = np.isfinite(numbers["loss"])
    features = numbers["features"][has_loss]
    result = found(numbers)
    for name in NAMES[:5]:
        expected = spearmanr(features, numbers[name][has_loss]).statistic
        assert result[name].value == pytest.approx(expected, abs=1e-12)
    f, loss, norm = (rankdata(values[has_loss]) for values in (numbers["features"], numbers["loss"], numbers["norm"]))
    rest = [ranks - np.polyval(np.polyfit(norm, ranks, 1), norm) for ranks in (f, loss)]
    assert result["loss_given_norm"].value == pytest.approx(pearsonr(*rest).statistic, abs=1e-9)


def test_the_norm_is_taken_out():
    result = found(rows(contexts=100))
    assert result["loss"].value > 0.5
    assert result["loss_given_norm"].low < 0 < result["loss_given_norm"].high


def test_intervals_are_those_of_rows_written_as_often_as_their_context_was_drawn():
    numbers = rows()
    draws = Bootstrap(12, seed=0).draws(RESAMPLES)
    has_loss = np.isfinite(numbers["loss"])
    drawn = []
    for counts in draws:
        index = np.repeat(np.arange(len(has_loss)), counts.astype(int)[numbers["context"]] * has_loss)
        drawn.append(spearmanr(numbers["features"][index], numbers["norm"][index]).statistic)
    estimate = found(numbers)["norm"]
    assert (estimate.low, estimate.high) == pytest.approx(np.percentile(drawn, (2.5, 97.5)), abs=1e-12)


def test_constants_correlate_with_nothing():
    numbers = rows()
    numbers["features"][:] = 16
    for estimate in found(numbers).values():
        assert np.isnan([estimate.value, estimate.low, estimate.high]).all()
    numbers = rows()
    numbers["norm"][:] = 0.1
    result = found(numbers)
    assert np.isnan(result["norm"].value)
    assert np.isnan(result["loss_given_norm"].value)
    assert np.isfinite(result["loss"].value)


def test_features_that_are_the_norm_leave_nothing_to_the_loss():
    numbers = rows()
    numbers["features"] = numbers["norm"]
    result = found(numbers)
    assert result["norm"].value == pytest.approx(1)
    assert np.isnan(result["loss_given_norm"].value)


def test_no_row_has_a_loss():
    numbers = rows()
    numbers["loss"][:] = np.nan
    assert all(np.isnan(estimate.value) for estimate in found(numbers).values())
