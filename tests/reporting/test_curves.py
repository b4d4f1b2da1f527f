import json

import numpy as np

from distsae.reporting.curves import thin, training_figures
from distsae.reporting.runs import load_runs


def test_thinning_averages_and_skips_missing_values():
    tokens, values = thin(np.arange(1000.0), np.where(np.arange(1000) % 2, np.nan, np.arange(1000.0)), points=50)
    assert len(tokens) == len(values) == 50
    assert np.allclose(values, tokens)
    assert values.mean() == np.arange(0, 1000, 2).mean()


def test_few_points_are_left_alone():
    tokens, values = thin(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    assert (tokens.tolist(), values.tolist()) == ([1, 2], [3, 4])


def test_curves_that_no_run_has_or_that_are_zero_are_left_out(make_run):
    folder = make_run("tc", "token_choice")
    lines = [json.loads(line) | {"aux_loss": 0.0} for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    titles = [figure.title for figure in training_figures(load_runs([folder]))]
    assert "FVU during training" in titles
    assert "Auxiliary loss" not in titles
    assert "Threshold" not in titles


def test_a_single_logged_step_can_be_seen(make_run):
    folder = make_run("mc")
    (folder / "metrics.jsonl").write_text((folder / "metrics.jsonl").read_text().splitlines()[0])
    figure = training_figures(load_runs([folder]))[0]
    assert "<use " in figure.svg
    assert "mc ends at" in figure.svg
