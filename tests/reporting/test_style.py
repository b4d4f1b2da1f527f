import re

import pytest

from distsae.reporting.style import drawing, look, panels, to_svg, verbatim


def test_runs_differ_in_colour_or_dash():
    looks = [look(column) for column in range(28)]
    assert len({(run.colour, run.dash) for run in looks}) == 28
    assert all(run.dash == () for run in looks[:7])


def test_drawings_do_not_share_identifiers_and_scale():
    with drawing() as (canvas, axes):
        axes.plot([0, 1], [0, 1], marker="o")
        first, second = (to_svg(canvas, name, 'a "line" <up>') for name in ("one", "two"))
    assert not set(re.findall(r' id="([^"]+)"', first)) & set(re.findall(r' id="([^"]+)"', second))
    assert "a &quot;line&quot; &lt;up&gt;" in first
    head = first[: first.index(">")]
    assert "viewBox" in head
    assert "width" not in head
    assert "<metadata" not in first
    assert "<style" not in first


@pytest.mark.parametrize("name", ["$x_", "$x_$", "a$b$c$", "price in $", r"$\frac$", r"a\b", r"$\$"])
def test_names_with_dollars_are_no_formulas(name):
    with drawing() as (canvas, axes):
        axes.set_yticks([0], [verbatim(name)])
        assert f">{name}</text>" in to_svg(canvas, "one", name)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_panels_share_their_vertical_axis(count):
    with panels(count) as (canvas, axes):
        assert len(axes) == len(canvas.axes) == count
        axes[0].set_ylim(0, 7)
        assert {part.get_ylim() for part in axes} == {(0, 7)}
