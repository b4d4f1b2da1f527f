"""The list of members before any work."""

import re

from distsae.recipes.study.dry_run import listing, members_to_come
from distsae.recipes.study.outcomes import Outcomes
from tests.recipes.study.samples import GRID, TC, plan, save_sae


def test_members_are_counted_once(tiny_store, tmp_path):
    grid = [GRID, {**GRID, "k": [8], "lr": ["auto"], "seed": [0]}]
    found = plan(tiny_store, tmp_path / "o", methods=[TC], grid=grid)
    assert len(members_to_come(found)) == 4 + 1
    save_sae(found.folder(found.cells[0].trials[1]))
    text = listing(found, Outcomes(found), fits=lambda config: len(config.sweep.lr) < 3)
    lines = [re.split(r" {2,}", line) for line in text.splitlines()]
    assert lines[1] == ["TC", "64", "4", "0.001 0.003 0.01", "0 1", "4", "1", "4", "2+1, then 1"]
    assert lines[2] == ["TC", "64", "8", "auto", "0", "1", "0", "4", "1"]
    assert "5 members in 2 lines of the table: 20 steps, 1,280 tokens of training" in text
    assert "3 members are evaluated, on at most 200,000 tokens each" in text
