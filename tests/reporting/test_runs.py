import json

import numpy as np
import pytest

from distsae.errors import TornData, WrongInput
from distsae.nested_keys import at_key
from distsae.reporting.runs import load_runs


def test_columns_and_settings(make_run):
    (run,) = load_runs([make_run("mc")])
    assert run.name == "mc"
    assert run.metrics["step"].tolist() == list(range(10, 501, 10))
    assert "allocation" not in run.metrics
    assert run.setting("sae.d_sae") == 512
    assert run.setting("sae.d_sae.more") is None
    assert run.measured("frozen_rule.l0") > 0
    assert run.measured("frozen_rule.nothing") is None
    assert run.store == {}


def test_values_at_dotted_keys():
    values = {"sae": {"k": 4, "more": {"deep": None}}, "seed": 0}
    assert [at_key(values, key) for key in ("seed", "sae.k", "sae.more.deep", "sae")] == [0, 4, None, values["sae"]]
    assert [at_key(values, key) for key in ("", "sae.", "sae.k.more", "nothing.k")] == [None] * 4
    assert at_key(None, "sae") is None


def test_missing_values_are_nan(make_run):
    (run,) = load_runs([make_run("tc", "token_choice")])
    assert np.isnan(run.metrics["threshold"]).all()


def test_the_switch_to_feature_choice_is_found(make_run):
    runs = load_runs([make_run("ft", finetune_fc_from=0.7), make_run("mc"), make_run("fc", "feature_choice")])
    assert [run.feature_choice_from for run in runs] == [350 * 4096, None, None]


def test_names_tell_runs_apart(make_run):
    runs = load_runs([make_run("a/mc"), make_run("b/mc"), make_run("b/tc")])
    assert [run.name for run in runs] == ["a/mc", "b/mc", "b/tc"]
    assert [run.column for run in runs] == [0, 1, 2]


def test_a_torn_last_line_is_skipped_and_a_repeated_step_counts_once(make_run):
    folder = make_run("mc")
    log = folder / "metrics.jsonl"
    again = json.loads(log.read_text().splitlines()[-1]) | {"fvu": 0.125}
    log.write_text(log.read_text() + json.dumps(again) + '\n{"step": 510, "tok')
    (run,) = load_runs([folder])
    assert len(run.metrics["step"]) == 50
    assert run.metrics["fvu"][-1] == 0.125


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.jsonl", "nonsense\n{}\n"),
        ("evaluation.json", '{"fvu": '),
        ("evaluation.json", "[1]"),
        ("evaluation.npz", "not a zip"),
        ("config.yaml", "a: [1"),
        ("config.yaml", "- 1"),
    ],
)
def test_damaged_files_are_named(make_run, name, content):
    folder = make_run("mc")
    (folder / name).write_text(content)
    with pytest.raises(TornData, match=name):
        load_runs([folder])


def test_no_such_run(tmp_path):
    with pytest.raises(WrongInput, match="no such folder"):
        load_runs([tmp_path / "nowhere"])
    with pytest.raises(WrongInput, match=r"neither config\.yaml nor metrics\.jsonl"):
        load_runs([tmp_path])


def test_the_same_run_twice(make_run):
    folder = make_run("mc")
    with pytest.raises(WrongInput, match="name each run once"):
        load_runs([folder, folder / ".." / "mc"])
