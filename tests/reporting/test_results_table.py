from distsae.reporting.results_table import results
from distsae.reporting.runs import load_runs


def row(rows, label):
    return next(row for row in rows if row.label == label)


def test_best_is_marked_in_the_right_direction_and_not_for_l0(make_run):
    rows = results(load_runs([make_run("a", seed=0), make_run("b", seed=1)]))
    assert [cell.best for cell in row(rows, "FVU").cells] == [True, False]
    assert [cell.best for cell in row(rows, "Loss recovered, zero ablation").cells] == [True, False]
    assert not any(cell.best for cell in row(rows, "L0").cells)
    assert not any(cell.best for cell in row(rows, "NMSE").cells)  # equal


def test_a_single_run_is_not_the_best(make_run):
    assert not any(cell.best for line in results(load_runs([make_run("a")])) for cell in line.cells)


def test_gaps_and_missing_numbers(make_run):
    rows = results(load_runs([make_run("a"), make_run("b", evaluated=False)]))
    fvu = row(rows, "FVU, frozen rule")
    assert fvu.cells[0].detail == "+0.0040 against the training rule"
    assert (fvu.cells[1].text, fvu.cells[1].detail, fvu.cells[1].best) == ("–", "", False)
    assert not fvu.cells[0].best
    assert row(rows, "Training time").cells[1].text == "1 min 40 s"
