"""Figures of a study are drawings with a text that says what they show."""

import dataclasses
import re
import xml.etree.ElementTree as ElementTree

from distsae.reporting.study.figures import front_figure, methods_figure, rates_figure
from distsae.reporting.study.measures import DEAD, FVU
from distsae.reporting.style import COLOURS, look
from tests.reporting.study.samples import cell, figures, study


def _label(figure):
    return ElementTree.fromstring(figure.svg).attrib["aria-label"]


def test_a_front_names_its_cells_and_fills_their_points():
    result = study()
    figure = front_figure(result.cells, result.methods, FVU, "one")
    assert _label(figure) == "FVU against L0. On the Pareto front: b at k 8, a <b> at k 16."
    assert "Lower and further left is better" in figure.reading
    filled = re.findall(r"fill: #ffffff; stroke: (#\w+)", figure.svg)
    assert {colour.upper() for colour in filled} == {look(0).colour.upper()}  # the point of `a` at k 8 alone


def test_a_study_without_results_is_drawn_too():
    result = study()
    figure = front_figure(result.cells[3:], result.methods, DEAD, "two")
    assert "nothing yet" in _label(figure)


def test_methods_side_by_side():
    result = study()
    figure = methods_figure([result.cells[0], result.cells[2]], result.methods, FVU, "three")
    assert _label(figure) == "FVU: a <b> 0.3200 ± 0.0283; b 0.2900 ± 0.0141."
    assert ">b</text>" in figure.svg


def test_a_method_may_hold_dollars():
    result = study()
    odd = dataclasses.replace(result.cells[0], method="$x^$")
    assert ">$x^$</text>" in methods_figure([odd], ["$x^$"], FVU, "five").svg


def test_errors_against_rates():
    result = study()
    figure = rates_figure([result.cells[0], result.cells[2]], result.methods, "four")
    assert _label(figure) == "Held-out FVU against learning rate. a <b> best at 0.001."


def test_methods_that_share_a_colour_have_points_of_another_shape():
    cells = [cell(f"m{number}", 8, [figures(0.1, 8.0)]) for number in (0, COLOURS)]
    methods = [f"m{number}" for number in range(COLOURS + 1)]
    assert look(0).colour == look(COLOURS).colour
    drawings = [front_figure([one], methods, FVU, "five").svg for one in cells]
    shapes = [sorted(re.findall(r' d="([^"]+)"', svg)) for svg in drawings]
    assert shapes[0] != shapes[1]
