from distsae.reporting.measures import RESULTS
from distsae.reporting.runs import load_runs


def test_labels_differ_and_every_number_is_found(make_run):
    labels = [measure.label for measure in RESULTS]
    assert len(set(labels)) == len(labels)
    (run,) = load_runs([make_run("mc")])
    missing = {measure.label for measure in RESULTS if measure.value(run) is None}
    assert missing == set()


def test_directions():
    better = {measure.label: measure.better for measure in RESULTS}
    assert better["Relative error"] == better["KL divergence"] == better["FVU of rows of unit norm"] == "lower"
    assert better["Cosine"] == better["Loss recovered (zero) with them"] == "higher"
    assert better["Rows left out"] == better["L0"] == ""


def test_figures_of_every_row_are_those_that_splice_every_row():
    every_row = {measure.label for measure in RESULTS if measure.every_row}
    assert every_row == {
        "FVU with them",
        "Relative error with them",
        "Loss recovered (zero) with them",
        "Loss recovered (zero), all positions",
    }
