import json

import numpy as np

from distsae.reporting.adaptivity import adaptivity_figure
from distsae.reporting.runs import load_runs


def test_four_panels_and_what_they_say(make_run):
    figure = adaptivity_figure(load_runs([make_run("mc")]))
    for name in ("loss on the next token", "frequency of the token", "position in the context"):
        assert f"decile by {name}</text>" in figure.svg
        assert f"By {name}: mc: " in figure.svg
    assert "in the highest, rank correlation 0.55" in figure.svg
    assert "With the norm taken out, the rank correlation with the loss is 0.12." in figure.reading


def test_several_runs_are_named(make_run):
    figure = adaptivity_figure(load_runs([make_run("tc", "token_choice"), make_run("mc", seed=1)]))
    by_loss = figure.svg.split("By loss")[1].split("By frequency")[0]
    assert "tc: 16.0 in the lowest tenth, 16.0 in the highest" in by_loss
    assert "mc: " in by_loss
    assert "mc: 16.0 in" not in by_loss
    assert "is 0.12 (tc), 0.13 (mc)." in figure.reading


def test_ends_are_the_means_of_the_first_and_the_last_tenth(make_run):
    folder = make_run("mc")
    with np.load(folder / "evaluation.npz") as kept:
        arrays = dict(kept)
    arrays["norm"] = np.arange(6000, dtype=np.float32)
    arrays["features_per_token"] = np.repeat(np.arange(10, dtype=np.int32), 600)
    np.savez(folder / "evaluation.npz", **arrays)
    figure = adaptivity_figure(load_runs([folder]))
    assert "By norm of the activation: mc: 0.0 in the lowest tenth, 9.0 in the highest" in figure.svg


def test_panels_of_an_older_evaluation(make_run, as_older):
    old = as_older(make_run("old"))
    alone = adaptivity_figure(load_runs([old]))
    assert "decile by loss" in alone.svg
    assert "decile by norm" not in alone.svg
    assert "taken out" not in alone.reading
    both = adaptivity_figure(load_runs([old, make_run("new")])).svg
    assert "By norm of the activation: new: " in both
    assert "By loss on the next token: old: " in both


def test_no_correlation_where_it_is_not_defined(make_run):
    folder = make_run("tc", "token_choice")
    content = json.loads((folder / "evaluation.json").read_text())
    content["features_per_token_correlations"] = dict.fromkeys(content["features_per_token_correlations"])
    (folder / "evaluation.json").write_text(json.dumps(content))
    figure = adaptivity_figure(load_runs([folder]))
    assert "rank correlation" not in figure.svg + figure.reading
