"""Means and deviations over seeds, and what is said of a cell."""

import statistics

import pytest

from distsae.reporting.study import CellResult, RateResult
from tests.reporting.study.samples import cell, figures, member, study


def test_mean_and_sample_deviation_over_seeds():
    values = [0.1, 0.2, 0.6]
    found = cell("a", 8, [figures(value, 8) for value in values]).estimate("frozen_rule.fvu")
    assert (found.mean, found.seeds) == (pytest.approx(0.3), 3)
    assert found.deviation == pytest.approx(statistics.stdev(values))
    assert found.interval is None


def test_a_single_seed_has_its_interval_and_no_deviation():
    found = cell("a", 8, [{"fvu": 0.1, "fvu_ci95": [0.05, 0.2]}]).estimate("frozen_rule.fvu")
    assert (found.mean, found.deviation, found.interval) == (0.1, None, (0.05, 0.2))
    assert cell("a", 8, [{"fvu": 0.1, "fvu_ci95": [None, 0.2]}]).estimate("frozen_rule.fvu").interval is None
    assert cell("a", 8, [{"fvu": 0.1}]).estimate("frozen_rule.fvu").interval is None


def test_the_first_key_that_is_there_counts_and_what_is_no_number_does_not():
    one = cell("a", 8, [{"l0": 8.0, "kl": None, "rows_left_out": {"rows": 3}}])
    assert one.estimate("frozen_rule.relative_error", "frozen_rule.l0").mean == 8.0
    assert one.estimate("fvu").mean == 0.9
    assert one.estimate("frozen_rule.kl") is None
    assert one.estimate("frozen_rule.rows_left_out") is None
    assert one.estimate("nothing") is None


def test_seeds_without_a_figure_are_not_counted():
    assert cell("a", 8, [figures(0.1, 8), {"l0": 8.0}]).estimate("frozen_rule.fvu").seeds == 1


def test_notes_say_what_is_missing():
    result = study()
    assert result.cells[0].notes == ("best at the highest rate of the list: widen it", "diverged at 0.03")
    assert result.cells[1].notes == ()
    assert result.cells[3].notes == ("waiting at 0.001",)
    rate = RateResult(rate=0.1, size=0.1, member=member("a/0"))
    later = member("a/1", seed=4, state="failed", reason="why")
    assert CellResult(method="a", d_sae=64, k=8, rates=[rate], best=rate, members=[rate.member, later]).notes == (
        "failed with seed 4",
    )


def test_methods_and_widths_in_order():
    assert study().methods == ("a <b>", "b")
    assert study().widths == (64,)
