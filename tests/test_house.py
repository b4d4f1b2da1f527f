"""The picture of the house in the pages is the house as it is."""

from __future__ import annotations

import re

from tests.house import ROOT, draw, figures, files_in, floors, rooms


def test_the_picture_is_that_of_this_checkout(tmp_path):
    """Labels are compared, for the exact lines depend on the version of matplotlib."""
    draw(ROOT, tmp_path / "house.svg")
    drawn, kept = (
        sorted(re.findall(r">([^<>]+)</text>", path.read_text()))
        for path in (tmp_path / "house.svg", ROOT / "docs" / "figures" / "house.svg")
    )
    assert drawn == kept, "run python -m tests.house --picture docs/figures/house.svg"
    assert f"training  {files_in(ROOT / 'distsae' / 'training')}" in kept


def test_floors_and_rooms_are_those_that_are_enforced():
    assert floors(ROOT)[-1] == ["cli"]
    assert rooms(ROOT)[0] == ["step"]
    assert sum(map(len, rooms(ROOT))) == figures(ROOT)["files on the training landing"] - 1 + 5
