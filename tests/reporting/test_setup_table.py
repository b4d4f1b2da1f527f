from distsae.reporting.runs import load_runs
from distsae.reporting.setup_table import setup


def row(rows, label):
    return next(row for row in rows if row.label == label)


def test_setup_tells_shared_from_different(make_run):
    runs = load_runs([make_run("tc", "token_choice", normalise="centre"), make_run("ft", seed=1, finetune_fc_from=0.7)])
    rows = setup(runs)
    assert row(rows, "Features, d_sae").shared
    assert row(rows, "Learning rate").cells[0].text == "auto, at most 0.001"
    assert row(rows, "Features, d_sae").cells[0].text == "512"
    assert not row(rows, "Seed").shared
    assert row(rows, "Normalisation of activations").cells[0].text == "centre"
    assert [cell.text for cell in row(rows, "Allocation").cells] == [
        "Token Choice",
        "Mutual Choice, then Feature Choice from 70 % of the steps (zipf quotas)",
    ]
    assert "Corpus" not in [row.label for row in rows]  # the store is gone


def test_steps_of_an_unfinished_run(make_run):
    (run,) = load_runs([make_run("mc", steps=1000)])
    assert row(setup([run]), "Steps").cells[0].text == "500 logged of 1,000"
