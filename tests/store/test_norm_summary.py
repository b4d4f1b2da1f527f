"""Statistics without the largest rows, and what those rows carry, against NumPy in float64 on the same rows."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distsae.errors import WrongInput
from distsae.store import NormHistogram, NormSummary
from distsae.store.norm_histogram import vector
from distsae.store.norm_summary import QUANTILES, TOP_SHARES
from distsae.store.row_norms import lower_edge, nearest_edge, row_norms, upper_edge
from tests.store.norm_samples import DTYPES, KINDS, sample


def _summary(*units):
    return NormSummary(NormHistogram.merged([NormHistogram.of(*unit) for unit in units]))


def _of(rows):
    """The summary of rows `[rows, d_in]`, with positions and tokens counted from 0."""
    return _summary((rows, torch.arange(len(rows)), torch.arange(len(rows))))


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(DTYPES),
    rows=st.integers(1, 300),
    units=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_statistics_are_those_of_the_rows_that_are_kept(kind, dtype, rows, units, seed):
    """For every edge at which rows can be left out."""
    samples = [sample(kind, rows, dtype, seed + unit) for unit in range(units)]
    summary = _summary(*samples)
    acts = torch.cat([unit[0] for unit in samples])
    x, norms = acts.double().numpy(), row_norms(acts).numpy()
    last = summary.histogram.ordinary_bins[-1]
    limits = [upper_edge(number) for number in summary.histogram.bins if number >= last and upper_edge(number)]
    for limit in [*limits, math.inf]:
        kept = norms <= limit
        found = summary.statistics(limit)
        assert found.rows == kept.sum() == summary.rows - summary.rows_over(limit)
        mean = x[kept].mean(0)
        mean_square = np.square(norms[kept]).mean()
        np.testing.assert_allclose(found.mean, mean.astype(np.float32), rtol=2e-7, atol=1e-12 * mean_square**0.5)
        assert found.mean_norm == pytest.approx(norms[kept].mean(), rel=1e-12, abs=0)
        variance = np.square(x[kept] - mean).sum(1).mean()
        assert found.variance == pytest.approx(variance, rel=1e-12, abs=1e-12 * mean_square)
        norms_kept = np.sqrt(np.square(x[kept]).sum(1, keepdims=True))
        directions = np.divide(x[kept], norms_kept, out=np.zeros_like(x[kept]), where=norms_kept > 0)
        direction = directions.mean(0)
        torch.testing.assert_close(found.mean_direction, torch.from_numpy(direction).float())
        expected = np.square(directions - direction).sum(1).mean()
        assert found.direction_variance == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_the_mean_is_exact_beside_rows_a_million_times_as_large():
    """It is a sum of what is kept; a difference of sums would lose the last digits."""
    rows = torch.full((2000, 3), 0.1, dtype=torch.float64) + torch.arange(2000)[:, None] / 1e5
    rows[::100] = 1e6
    summary = _of(rows)
    kept = rows[rows[:, 0] < 1].numpy()
    histogram = summary.histogram
    np.testing.assert_allclose(vector(histogram.x) / len(kept), kept.mean(0), rtol=1e-12)
    found = summary.statistics(summary.limit(10))
    assert found.rows == len(kept)
    assert found.variance == pytest.approx(np.square(kept - kept.mean(0)).sum(1).mean(), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(KINDS), rows=st.integers(1, 2000), seed=st.integers(0, 99))
def test_quantiles_lie_in_the_bin_of_the_true_ones(kind, rows, seed):
    acts, position, token_id = sample(kind, rows, torch.float32, seed)
    summary = _summary((acts, position, token_id))
    norms = np.sort(row_norms(acts).numpy())
    for share in QUANTILES:
        true = norms[max(math.ceil(share * rows) - 1, 0)]  # the smallest norm with that share at or below it
        assert summary.quantiles[share] == pytest.approx(true, rel=2 ** (1 / 16) - 1 + 1e-9)
    assert summary.median == summary.quantiles[0.5]
    assert summary.quantiles[1.0] >= norms[-1]
    assert list(summary.quantiles.values()) == sorted(summary.quantiles.values())


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(KINDS), rows=st.integers(2, 500), seed=st.integers(0, 99))
def test_shares_of_the_variance(kind, rows, seed):
    acts, position, token_id = sample(kind, rows, torch.float32, seed)
    summary = _summary((acts, position, token_id))
    x, norms = acts.double().numpy(), row_norms(acts).numpy()
    carried = np.square(x - x.mean(0)).sum(1)
    for outlier in summary.histogram.outliers:
        limit = lower_edge(outlier.number)
        assert summary.rows_over(limit) == (norms > limit).sum()
        assert summary.share_of_variance_over(limit) == pytest.approx(
            carried[norms > limit].sum() / carried.sum(), rel=1e-9
        )
    shares = list(summary.top_variance_shares.values())
    assert list(summary.top_variance_shares) == list(TOP_SHARES)
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    assert summary.top_variance_share(1.0) == (pytest.approx(1.0) if carried.sum() > 1e-9 else 0.0)
    rms = np.square(norms).mean() ** 0.5
    assert summary.mean_over_rms == pytest.approx(np.linalg.norm(x.mean(0)) / rms if rms else 0.0, rel=1e-9)


def test_the_top_share_is_exact_where_it_ends_with_a_bin():
    rows = torch.randn(10_000, 8, generator=torch.Generator().manual_seed(0)) + 1
    rows[:10] *= 1000  # 0.1% of the rows
    x = rows.double().numpy()
    carried = np.square(x - x.mean(0)).sum(1)
    assert _of(rows).top_variance_share(0.001) == pytest.approx(carried[:10].sum() / carried.sum(), rel=1e-12)
    half = _of(rows).top_variance_share(0.0005)
    assert 0.4 < half < 0.9


def test_what_ordinary_bins_carry_is_split_by_their_norms():
    """Two groups of rows along one direction: the split assumes just that, so it is exact."""
    rows = torch.tensor([[1.0, 0.0]] * 60 + [[1.5, 0.0]] * 40)
    x = rows.double().numpy()
    carried = np.square(x - x.mean(0)).sum(1)
    assert not _of(rows).histogram.outliers
    assert _of(rows).top_variance_share(0.4) == pytest.approx(carried[60:].sum() / carried.sum())


def test_limit_is_the_edge_nearest_to_a_multiple_of_the_median():
    rows = torch.ones(100, 1) * torch.linspace(1, 2, 100)[:, None]
    rows[-3:] = torch.tensor([[14.0], [40.0], [41.0]])
    summary = _of(rows)
    limit = summary.limit(10)
    assert limit == nearest_edge(10 * summary.median)
    assert limit == pytest.approx(15, rel=0.05)
    assert summary.rows_over(limit) == 2
    assert summary.rows_over(limit * 1.001) == 2  # any other norm counts as the nearest edge
    assert summary.statistics(limit).rows == 98
    assert summary.limit(3) < summary.limit(10) < summary.limit(1000)
    assert summary.rows_over(summary.limit(1000)) == 0


@pytest.mark.parametrize("ratio", [2.99, 0, -10, math.nan, math.inf])
def test_small_ratios_are_refused(ratio):
    with pytest.raises(WrongInput, match=r"`max_norm_ratio` \(=.*\) must be at least 3, .*; use 3 or more, or none"):
        _of(torch.ones(5, 2)).limit(ratio)


def test_no_row_is_over_a_limit_if_the_median_is_zero():
    rows = torch.zeros(9, 2)
    rows[:4] = 5.0
    summary = _of(rows)
    assert summary.limit(10) == math.inf
    assert summary.rows_over(math.inf) == 0
    assert summary.rows_over(0.0) == 4
    assert summary.positions_over(math.inf) == ()
    assert summary.statistics(math.inf).rows == 9
    assert summary.statistics(0.0).variance == 0.0
    assert _of(torch.zeros(3, 2)).quantiles == dict.fromkeys(QUANTILES, 0.0)


def test_a_limit_below_the_exact_sums_is_refused():
    """A unit of other norms than the rest has no sums of rows where the others have."""
    small = (torch.ones(50, 2), torch.ones(50).long(), torch.ones(50).long())
    large = (torch.full((8, 2), 20.0), torch.ones(8).long(), torch.ones(8).long())
    summary = _summary(small, large)
    with pytest.raises(
        WrongInput, match=r"`max_norm` \(=.*\) must be at least 29\.3\d*, .*; use a larger max_norm_ratio"
    ):
        summary.statistics(summary.limit(10))
    assert summary.rows_over(summary.limit(10)) == 8
    assert summary.statistics(summary.limit(40)).rows == 58


def test_positions_and_tokens_of_the_rows_over_a_limit():
    acts = torch.ones(40, 3)
    position = torch.arange(40) % 10
    token_id = torch.arange(40) % 7
    acts[position == 1] = 100.0
    acts[5] = 200.0
    summary = _summary((acts, position, token_id), (acts, position, token_id))
    limit = summary.limit(10)
    assert summary.positions_over(limit) == ((1, 8), (5, 2))
    assert summary.tokens_over(limit) == ((0, 2), (1, 2), (3, 2), (4, 2), (5, 2))  # rows 21, 1, 31, 11 and 5
    assert summary.positions_over(250.0) == ((5, 2),)
