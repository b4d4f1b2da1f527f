"""A unit's histogram holds every row once, with exact sums; histograms of units add up to that of all rows."""

import json
import struct
from base64 import b64encode
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distsae.checked_files import WrongField
from distsae.store import NormHistogram, NormSummary
from distsae.store.norm_histogram import vector
from distsae.store.row_norms import LAST_BIN, ZERO_BIN, bin_numbers, lower_edge, row_norms
from tests.store.norm_samples import DTYPES, KINDS, sample


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(KINDS), dtype=st.sampled_from(DTYPES), rows=st.integers(1, 400), seed=st.integers(0, 99))
def test_every_row_is_in_its_bin(kind, dtype, rows, seed):
    acts, position, token_id = sample(kind, rows, dtype, seed)
    found = NormHistogram.of(acts, position, token_id)
    norms = row_norms(acts).numpy()
    numbers = bin_numbers(norms)
    x = acts.double().numpy()
    scale = norms.sum()
    assert sum(found.rows) == rows
    assert list(found.bins) == sorted(set(numbers.tolist()))
    for number, count, norm, squares in zip(found.bins, found.rows, found.norm, found.norm_squared, strict=True):
        inside = numbers == number
        assert count == inside.sum()
        assert norm == pytest.approx(norms[inside].sum(), rel=1e-12)
        assert squares == pytest.approx(np.square(norms[inside]).sum(), rel=1e-12)
    ordinary = np.isin(numbers, found.ordinary_bins)
    np.testing.assert_allclose(vector(found.x), x[ordinary].sum(0), rtol=1e-12, atol=1e-12 * norms[ordinary].sum())
    median = np.sort(norms)[(rows - 1) // 2]
    expected = [n for n in found.bins if n != ZERO_BIN and lower_edge(n) >= 2 * median]
    assert [outlier.number for outlier in found.outliers] == expected
    for outlier in found.outliers:
        inside = numbers == outlier.number
        np.testing.assert_allclose(vector(outlier.x), x[inside].sum(0), rtol=1e-12, atol=1e-12 * scale)
        for counts, ids in ((outlier.positions, position), (outlier.token_ids, token_id)):
            every = Counter(ids[torch.from_numpy(inside)].tolist())
            assert list(counts) == sorted(every.items(), key=lambda item: (-item[1], item[0]))[:8]
    assert NormHistogram.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_is_the_same_for_any_number_of_threads_bit_for_bit():
    acts, position, token_id = sample("outliers", 3000, torch.float16, seed=1)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = NormHistogram.of(acts, position, token_id)
        torch.set_num_threads(4)
        assert NormHistogram.of(acts, position, token_id) == alone
    finally:
        torch.set_num_threads(threads)
    assert alone.outliers


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    rows=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_merged_histograms_hold_the_rows_of_all(kinds, rows, seed):
    units = [sample(kind, rows, torch.float32, seed + number) for number, kind in enumerate(kinds)]
    parts = [NormHistogram.of(*unit) for unit in units]
    merged = NormHistogram.merged(parts)
    acts = torch.cat([unit[0] for unit in units])
    norms = row_norms(acts).numpy()
    numbers = bin_numbers(norms)
    assert dict(zip(merged.bins, merged.rows, strict=True)) == Counter(numbers.tolist())
    assert sum(merged.norm) == pytest.approx(norms.sum(), rel=1e-12)
    assert sum(merged.norm_squared) == pytest.approx(np.square(norms).sum(), rel=1e-12)
    total = vector(merged.x) + sum(vector(outlier.x) for outlier in merged.outliers)
    np.testing.assert_allclose(total, acts.double().sum(0), rtol=1e-12, atol=1e-12 * norms.sum())
    highest = max(part.ordinary_bins[-1] for part in parts)
    assert [outlier.number for outlier in merged.outliers] == [number for number in merged.bins if number > highest]
    for outlier in merged.outliers:
        inside = numbers == outlier.number
        np.testing.assert_allclose(vector(outlier.x), acts[torch.from_numpy(inside)].double().sum(0), rtol=1e-12)
        assert sum(count for _, count in outlier.positions) <= inside.sum()
    assert NormHistogram.merged([merged]) == merged


def test_lists_of_units_are_added():
    acts = torch.tensor([[1.0], [1.0], [1.0], [50.0], [50.0]])
    first = NormHistogram.of(acts, torch.tensor([5, 6, 7, 1, 1]), torch.tensor([0, 0, 0, 9, 8]))
    second = NormHistogram.of(acts, torch.tensor([5, 6, 7, 1, 2]), torch.tensor([0, 0, 0, 8, 8]))
    (outlier,) = NormHistogram.merged([first, second]).outliers
    assert outlier.positions == ((1, 3), (2, 1))
    assert outlier.token_ids == ((8, 3), (9, 1))


def test_there_is_none_of_rows_that_are_not_finite():
    acts = torch.ones(4, 3)
    ids = torch.arange(4)
    for broken in (float("nan"), float("inf")):
        acts[2, 1] = broken
        assert NormHistogram.of(acts, ids, ids) is None


def _read(values, rows):
    histogram = NormHistogram.from_json(values)
    histogram.check(5, rows, "norms")
    return histogram


def _changed(name, value):
    return lambda values: values.update({name: value})


def _in_each(name, change):
    return lambda values: values.update({name: [change(number) for number in values[name]]})


def _of_outlier(name, value):
    return lambda values: values["outliers"][0].update({name: value})


def _sum_of(number):
    return b64encode(struct.pack("<5d", *[number] * 5)).decode()


@pytest.mark.parametrize(
    "change",
    [
        _changed("bins", []),
        _changed("bins", [LAST_BIN + 1]),
        _in_each("bins", lambda number: number + 1600),  # other norms than those of the sums
        _in_each("rows", lambda rows: 0),
        _in_each("rows", lambda rows: 2**63 - 1),
        _in_each("norm", lambda norm: float("nan")),
        _in_each("norm", lambda norm: -1.0),
        _in_each("norm_squared", lambda norm: float("inf")),
        _in_each("norm_squared", lambda norm: 1e308),
        _changed("x", _sum_of(float("nan"))),
        _changed("x", _sum_of(1e300)),
        _changed("direction", _sum_of(float("inf"))),
        _changed("direction", ""),
        _of_outlier("number", ZERO_BIN),
        _of_outlier("x", _sum_of(-1e300)),
        _of_outlier("positions", []),
        _of_outlier("positions", [[1, 0]]),
        _of_outlier("positions", [[-1, 1]]),
        _of_outlier("token_ids", [[10**400, 1]]),
        _of_outlier("token_ids", [[1, 10**6]]),
    ],
)
def test_what_no_rows_can_have_is_refused(change):
    """Whoever computes with such numbers would divide by zero, take the first of none, or get no number at all."""
    good = NormHistogram.of(*sample("outliers", 200, torch.float32, seed=1))
    assert good.outliers
    values = json.loads(json.dumps(good.to_json()))
    assert _read(values, 200) == good
    change(values)
    with pytest.raises(WrongField, match=r"`(norms|bins|rows|outliers)"):
        _read(values, 200)


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), max_size=4),
    dtype=st.sampled_from(DTYPES),
    rows=st.integers(0, 300),
    seed=st.integers(0, 99),
)
def test_every_real_histogram_passes_the_check(kinds, dtype, rows, seed):
    parts = [NormHistogram.of(*sample(kind, rows, dtype, seed)) for kind in kinds]
    for part in parts:
        part.check(5, rows, "norms")
    if parts:
        NormHistogram.merged(parts).check(5, rows * len(parts), "norms")


@pytest.mark.parametrize("number", [ZERO_BIN + 1, LAST_BIN])
def test_the_first_and_the_last_bin_can_be_summarised(number):
    norm = 0.0 if number < 0 else lower_edge(number) * 1.01
    sums = {"norm": [norm], "norm_squared": [norm * norm], "x": _sum_of(norm / 3), "direction": _sum_of(0.0)}
    summary = NormSummary(_read({"bins": [number], "rows": [1], **sums, "outliers": []}, 1))
    assert summary.quantile(1.0) >= norm
    assert summary.rows_over(summary.limit(10)) == 0
