"""Figures of a report on axes of one's own."""

import matplotlib
import pytest
from matplotlib import pyplot

from distsae.errors import WrongInput
from distsae.reporting import plot


@pytest.fixture(autouse=True)
def _no_screen():
    before = matplotlib.get_backend()
    matplotlib.use("agg")
    yield
    pyplot.close("all")
    matplotlib.use(before)


@pytest.mark.parametrize(
    ("figure", "label"),
    [
        ("density", "density (matches per token)"),
        ("features_per_token", "share of the tokens"),
        ("error", "squared error / variance"),
        ("fvu", "FVU of the batch (log scale)"),
        ("l0", "features per token"),
    ],
)
def test_a_figure_of_two_runs_on_given_axes(figure, label, make_run):
    folders = [make_run("tc", "token_choice"), make_run("mc")]
    _, (left, right) = pyplot.subplots(1, 2)
    assert plot(folders, figure, right) is right
    assert right.get_ylabel() == label
    assert not left.lines
    assert right.lines or right.patches
    assert right.get_legend() is not None


def test_one_run_gets_axes_of_its_own(make_run):
    axes = plot(make_run("mc"))
    assert axes.get_legend() is None
    assert axes.get_xlabel().endswith("tokens trained")
    line = axes.lines[0]
    assert len(line.get_xdata()) == len(line.get_ydata()) > 0


def test_figures_that_there_are_not(make_run):
    folder = make_run("mc")
    with pytest.raises(WrongInput, match=r"`figure` \(=fuv\) must be logged by a run, .*did you mean 'fvu'"):
        plot(folder, "fuv")
    (folder / "evaluation.json").unlink()
    with pytest.raises(WrongInput, match=r"`figure` \(=density\) must be of evaluated runs; got mc without"):
        plot(folder, "density")
    with pytest.raises(WrongInput, match="must be a run folder; got no such folder"):
        plot(folder / "nowhere")
