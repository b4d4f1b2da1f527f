"""Files of a run from a stranger: every field that a report computes with is checked, and named if it is wrong."""

import json

import numpy as np
import pytest
import yaml

from distsae.errors import TornData
from distsae.reporting.results_table import results
from distsae.reporting.run_files import read_arrays, read_config, read_evaluation
from distsae.reporting.runs import load_runs
from distsae.reporting.setup_table import setup
from tests.hostile import as_json, changed, damaged, fuzz, try_all


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fvu": "0.1"}, "evaluation.json: `fvu` must be a number; got '0.1'"),
        ({"fvu_ci95": [0.1]}, "evaluation.json: `fvu_ci95` must be a list of 2"),
        ({"fvu_ci95": "ab"}, "evaluation.json: `fvu_ci95` must be a list of 2"),
        ({"frozen_rule": []}, "evaluation.json: `frozen_rule` must be an object"),
        ({"frozen_rule": {"l0": True}}, "evaluation.json: `frozen_rule.l0` must be a number"),
        ({"rows": -1}, "evaluation.json: `rows` must be at least 0"),
        ({"max_norm": {}}, "evaluation.json: `max_norm` must be a number"),
    ],
)
def test_figures_of_an_evaluation(make_run, changes, words):
    file = make_run("a") / "evaluation.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(TornData, match=words):
        read_evaluation(file)


@pytest.mark.parametrize("changes", [{"later": {"a": 1}}, {"kl": None}, {"loss_recovered_zero_ci95": [None, None]}])
def test_what_no_report_reads_or_is_not_defined_is_harmless(make_run, changes):
    run = make_run("a")
    file = run / "evaluation.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    assert results(load_runs([run]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda arrays: arrays.pop("density"), "must have the array `density`"),
        (lambda arrays: arrays.update(token_loss=np.zeros(3)), "must have an array 'token_loss' of as many numbers"),
        (lambda arrays: arrays.update(density=np.zeros((2, 2))), "must have an array 'density'"),
        (lambda arrays: arrays.update(norm=np.array(["a"] * len(arrays["norm"]))), "must have an array 'norm'"),
        (lambda arrays: arrays.update(features_per_token=arrays["features_per_token"] + 1e12), "counts up to"),
        (lambda arrays: arrays.update(density=arrays["density"] * np.nan), "must have finite densities"),
    ],
)
def test_arrays_of_an_evaluation(make_run, change, words):
    file = make_run("a") / "evaluation.npz"
    with np.load(file) as content:
        arrays = dict(content)
    change(arrays)
    np.savez_compressed(file, **arrays)
    with pytest.raises(TornData, match=words):
        read_arrays(file)


def test_settings_of_a_run(make_run):
    file = make_run("a") / "config.yaml"
    file.write_text(file.read_text().replace("finetune_fc_from: null", "finetune_fc_from: [1]"))
    with pytest.raises(TornData, match=r"config.yaml: `finetune_fc_from` must be a number; got list of 1"):
        read_config(file)


RUN_FILES = ["config.yaml", "metrics.jsonl", "sae/config.json", "evaluation.json", "evaluation.npz"]


@fuzz
@pytest.mark.parametrize("file", RUN_FILES)
def test_files_of_a_run(make_run, examples, file):
    run = make_run("a")
    path = run / file
    encoded = path.read_bytes()
    if file.endswith("npz"):
        contents = damaged(encoded)
    elif file.endswith("jsonl"):
        contents = changed([json.loads(line) for line in encoded.splitlines()[:3]]) | damaged(encoded)
    else:
        contents = changed(yaml.safe_load(encoded)) | damaged(encoded)

    def put(values):
        if isinstance(values, bytes):
            path.write_bytes(values)
        elif file.endswith("jsonl"):
            path.write_bytes(b"\n".join(map(as_json, values)))
        else:
            path.write_bytes(as_json(values))

    def read():
        runs = load_runs([run])
        setup(runs)
        results(runs)

    try_all(examples, contents, put, read)
