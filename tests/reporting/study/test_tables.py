"""The table as JSON and as Markdown."""

import json

import pytest

from distsae.reporting.study import as_json, as_markdown
from distsae.reporting.study.results import CellResult, RateResult
from distsae.reporting.study.tables import rate_text, shown_measures
from tests.reporting.study.samples import cell, figures, member, study


def test_json_has_figures_rates_fronts_and_members():
    content = json.loads(json.dumps(as_json(study())))
    first = content["cells"][0]
    assert first["figures"]["fvu"] == {
        "mean": pytest.approx(0.32),
        "deviation": pytest.approx(0.02**0.5 / 5),
        "seeds": 2,
        "ci95": None,
    }
    assert first["lr"] == 1e-3
    assert first["best_at_edge"] == "highest"
    assert [(rate["lr"], rate["state"]) for rate in first["rates"]] == [
        (1e-3, "finished"),
        (3e-4, "finished"),
        (3e-2, "diverged"),
    ]
    assert content["cells"][3]["figures"] == {}
    fronts = {front["figure"]: front["cells"] for front in content["fronts"]}
    assert fronts["fvu"] == ["b, d_sae 64, k 8", "a <b>, d_sae 64, k 16"]
    assert content["members"][-1] == {
        "path": "b/k16-1",
        "seed": 0,
        "state": "failed",
        "reason": "its training ended with exit code 1",
        "heldout_fvu": None,
        "evaluation": None,
    }


def test_markdown_has_a_line_for_each_cell_and_says_what_went_wrong():
    lines = as_markdown(study()).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 4
    assert len({line.count("|") for line in table}) == 1
    assert "0.3200 ± 0.0283" in table[2]
    assert "widen it" in table[2]
    assert "- a/wide: diverged: at step 7" in lines
    assert any("smallest FVU of the frozen rule on held-out rows" in line for line in lines)


def test_only_figures_that_a_cell_has_are_shown():
    names = [measure.name for measure in shown_measures(study().cells)]
    assert names == ["fvu", "fvu_training", "loss_recovered_zero", "l0", "dead_share"]
    with_kl = [measure.name for measure in shown_measures([cell("a", 8, [{**figures(0.1, 8.0), "kl": 0.3}])])]
    assert "kl" in with_kl


def test_rates_as_text():
    auto = RateResult(rate="auto", size=0.00321, member=member("a"))
    unknown = RateResult(rate="auto", size=None, member=member("a"))
    number = RateResult(rate=0.0005, size=0.0005, member=member("a"))
    texts = [rate_text(CellResult(method="a", d_sae=1, k=1, rates=[], best=r)) for r in (auto, unknown, number, None)]
    assert texts == ["auto (0.0032)", "auto", "0.0005", "–"]
