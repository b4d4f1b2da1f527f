"""Results are read from the members' folders."""

import json

import pytest

from distsae.recipes.study.outcomes import Outcomes
from distsae.recipes.study.results import best_of, study_result
from tests.recipes.study.samples import GRID, MC, TC, plan, save_sae


def _finish(found, member, fvu, evaluated=True):
    folder = found.folder(member)
    save_sae(folder)
    (folder / "frozen_rule.json").write_text(json.dumps({"fvu": fvu}))
    if evaluated:
        (folder / "evaluation.json").write_text(json.dumps({"fvu": fvu + 1, "frozen_rule": {"fvu": fvu}}))


def test_the_best_rate_is_known_once_all_were_tried(tiny_store, tmp_path):
    found = plan(tiny_store, tmp_path / "o", methods=[TC])
    outcomes, cell = Outcomes(found), found.cells[0]
    low, middle, high = cell.trials
    _finish(found, low, 0.3)
    _finish(found, middle, 0.2)
    assert best_of(cell, outcomes) is None
    outcomes.fail(high, 1, "killed")  # may be tried again, but the others need not wait for it
    assert best_of(cell, outcomes) == middle.lr
    _finish(found, high, 0.1)
    assert best_of(cell, outcomes) == high.lr


def test_a_single_rate_needs_no_trial(tiny_store, tmp_path):
    found = plan(tiny_store, tmp_path / "o", methods=[TC], grid={**GRID, "lr": ["auto"]})
    assert best_of(found.cells[0], Outcomes(found)) == "auto"


def test_cells_have_their_rates_and_the_members_at_the_best(tiny_store, tmp_path):
    found = plan(tiny_store, tmp_path / "o", methods=[TC, MC])
    outcomes, cell = Outcomes(found), found.cells[0]
    for member, fvu in zip(cell.trials, (0.3, 0.2, 0.1), strict=True):
        _finish(found, member, fvu)
    _finish(found, cell.repeats(1e-2)[1], 0.2)
    first, second = study_result(found, outcomes).cells
    assert (first.best.rate, first.edge) == (1e-2, "highest")
    assert [(rate.rate, rate.member.heldout_fvu) for rate in first.rates] == [(1e-3, 0.3), (3e-3, 0.2), (1e-2, 0.1)]
    assert first.estimate("frozen_rule.fvu").mean == pytest.approx(0.15)
    assert (second.best, list(second.members)) == (None, [])
    assert [rate.member.state for rate in second.rates] == ["waiting"] * 3


def test_facts_say_what_all_share_and_what_is_a_methods_own(tiny_store, tmp_path):
    found = plan(tiny_store, tmp_path / "o", methods=[TC, {**MC, "steps": 8}])
    facts = study_result(found, Outcomes(found)).facts
    assert facts["Steps"] == "4, 8"
    assert facts["All methods"] == "steps 4, batch_tokens 64, hook blocks.0.resid_post"
    assert set(facts["MC"].split(", ")) == {"allocation mutual_choice", "aux none", "steps 8"}
