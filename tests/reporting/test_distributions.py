import numpy as np

from distsae.reporting.distributions import density_figure, error_figure, features_per_token_figure
from distsae.reporting.runs import load_runs


def change(folder, **arrays):
    with np.load(folder / "evaluation.npz") as kept:
        content = dict(kept)
    np.savez(folder / "evaluation.npz", **{k: v for k, v in (content | arrays).items() if v is not None})


def test_alternative_texts_have_the_numbers(make_run):
    runs = load_runs([make_run("tc", "token_choice"), make_run("mc")])
    assert "tc: 0.98 % of 512 features dead" in density_figure(runs).svg
    assert "tc: mean 16.0, standard deviation 0.0" in features_per_token_figure(runs).svg
    error = error_figure(runs).svg
    assert "tc: 0.2" in error
    assert "on the easiest" in error


def test_all_features_dead(make_run):
    folder = make_run("mc")
    change(folder, density=np.zeros(512), zipf_predicted=None, features_per_token=np.zeros(6000, np.int32))
    runs = load_runs([folder])
    assert "100.00 % of 512 features dead" in density_figure(runs).svg
    assert "mean 0.0" in features_per_token_figure(runs).svg


def test_a_wide_dictionary_is_drawn_with_few_points(make_run):
    folder = make_run("mc")
    change(folder, density=1.0 / np.arange(1, 200_001), zipf_predicted=1.0 / np.arange(1, 200_001))
    assert len(density_figure(load_runs([folder])).svg) < 60_000
