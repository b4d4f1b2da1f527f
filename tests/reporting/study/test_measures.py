"""Figures as text, and the keys that they are found by."""

from distsae.reporting.study.measures import DEAD, FVU, L0, MEASURES
from tests.reporting.study.samples import cell, figures


def test_the_frozen_rule_comes_first():
    both = cell("a", 8, [figures(0.25, 8.0)])
    assert FVU.of(both).mean == 0.25
    assert next(measure for measure in MEASURES if measure.name == "fvu_training").of(both).mean == 0.9


def test_text_has_the_deviation_if_there_is_one():
    assert FVU.text(None) == "–"
    assert FVU.text(FVU.of(cell("a", 8, [figures(0.25, 8.0)]))) == "0.2500"
    two = cell("a", 8, [figures(0.1, 8.0, dead=0.0), figures(0.3, 8.0, dead=0.0)])
    assert FVU.text(FVU.of(two)) == "0.2000 ± 0.1414"
    assert L0.text(L0.of(two)) == "8.00 ± 0.00"
    assert DEAD.text(DEAD.of(two)) == "0.00 % ± 0.00 %"


def test_names_are_unique():
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)
