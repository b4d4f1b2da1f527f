import json

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


def test_rows_left_out_are_counted_and_the_figures_with_them_are_beside(make_run):
    rows = results(load_runs([make_run("a")]))
    assert row(rows, "Rows left out").cells[0].text == "0.03 %"
    assert row(rows, "Rows left out").cells[0].detail == "2 with a norm over 1,350"
    assert row(rows, "FVU with them").cells[0].text == "0.5000"
    assert row(rows, "Relative error").cells[0].text == "0.4300"
    assert row(rows, "KL divergence").cells[0].detail == "0.2376 to 0.2424"


def test_without_rows_left_out_there_is_nothing_beside(make_run):
    folder = make_run("a")
    change(folder, rows_left_out=0, left_out_share=0.0)
    labels = [line.label for line in results(load_runs([folder]))]
    assert "Rows left out" in labels
    assert "FVU with them" not in labels
    change(folder, max_norm=None)
    assert "Rows left out" not in [line.label for line in results(load_runs([folder]))]


def test_runs_on_different_rows_are_compared_only_with_every_row(make_run):
    folders = [make_run("a", seed=0), make_run("b", seed=1)]
    change(folders[1], rows=5990, rows_left_out=12)
    rows = results(load_runs(folders))
    assert not any(cell.best for cell in row(rows, "FVU").cells)
    assert not any(cell.best for cell in row(rows, "KL divergence").cells)
    assert [cell.best for cell in row(rows, "Loss recovered (zero) with them").cells] == [False, True]


def test_an_older_evaluation_beside_a_new_one(make_run, as_older):
    rows = results(load_runs([as_older(make_run("old")), make_run("new")]))
    assert [cell.text for cell in row(rows, "Relative error").cells] == ["–", "0.4300"]
    assert [cell.text for cell in row(rows, "Rows left out").cells] == ["–", "0.03 %"]
    alone = [line.label for line in results(load_runs([as_older(make_run("older"))]))]
    assert "FVU" in alone
    assert not {"Relative error", "KL divergence", "Rows left out", "FVU with them"} & set(alone)


def change(folder, **values):
    content = json.loads((folder / "evaluation.json").read_text()) | values
    (folder / "evaluation.json").write_text(json.dumps(content))
