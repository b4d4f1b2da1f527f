"""Wrong input to `distsae train` ends with exit code 2 and one line that names it, before anything is written."""

from __future__ import annotations

import json

import pytest
import yaml

from distsae import SAE
from distsae.cli.main import main


@pytest.fixture
def refused(capsys, tmp_path):
    """Returns a function that runs a command which must be refused, and returns its one line."""

    def run(*arguments):
        assert main(["train", *map(str, arguments)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1, err
        assert err.startswith("distsae: error: ")
        assert not (tmp_path / "run").exists()
        return err

    return run


@pytest.fixture
def base(tiny_store, tmp_path):
    return ("--store", tiny_store, "--out", tmp_path / "run", "--wandb", "off", "--hook", "blocks.0.resid_post")


def test_missing_store(refused, tmp_path):
    line = refused("--store", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert str(tmp_path / "nowhere") in line
    assert "distsae produce" in line


def test_store_that_is_not_sealed(refused, tmp_path):
    from distsae.store import begin_store
    from tests.store.synthetic import attributes, write_unit

    begin_store(tmp_path / "begun", attributes())
    write_unit(tmp_path / "begun", attributes(), 0)
    line = refused("--store", tmp_path / "begun", "--out", tmp_path / "run")
    assert "got 1 of 4 units" in line


def test_a_store_below_the_smallest_batch_needs_more_rows(refused, tmp_path):
    from tests.store.synthetic import attributes, write_store

    store = write_store(tmp_path / "small", attributes(contexts=6, heldout_contexts=2, unit_rows=30))
    assert 0 < store.rows < 64
    line = refused("--store", store.path, "--out", tmp_path / "run", "--hook", store.attributes.hooks[0])
    assert f"must have 64 training rows, for the smallest batch; got {store.rows}; produce more rows" in line


def test_missing_keys(refused, tmp_path):
    assert "store" in refused("--out", tmp_path / "run")
    assert "out" in refused("--store", tmp_path)


def test_hook_that_is_not_in_the_store(refused, base):
    line = refused(*base, "--hook", "blocks.7.resid_post")
    assert "blocks.7.resid_post" in line
    assert "blocks.0.resid_post, blocks.1.resid_post" in line


def test_more_feature_ranks_than_features(refused, base):
    line = refused(*base, "--sae.d_sae", "40", "--mesh.feature", "41")
    assert "`mesh.feature` (=41) must be at most `sae.d_sae` (=40)" in line


def test_more_matches_than_features(refused, base):
    assert "`sae.k` (=65) must be between 1 and `sae.d_sae` (=64)" in refused(
        *base, "--sae.k", "65", "--sae.d_sae", "64"
    )


def test_a_device_is_only_planned_for(refused, base):
    line = refused(*base, "--device", "cuda")
    assert "`device` (=cuda) must be given with `dry_run`, as accelerate chooses the device of a run; add" in line


def test_mesh_without_its_processes(refused, base):
    line = refused(*base, "--mesh.data", "2", "--mesh.feature", "2")
    assert "(=2 * 2) must equal the number of processes; got 1; start 4 with `accelerate launch" in line


def test_batch_of_no_whole_streams_and_too_large_a_batch(refused, base):
    assert "`batch_tokens` (=100) must be a positive multiple of 64" in refused(*base, "--batch_tokens", "100")
    assert "`batch_tokens` (=64000) must not exceed" in refused(*base, "--batch_tokens", "64000")


@pytest.mark.parametrize(
    ("arguments", "key", "near"),
    [
        (("--sae.dsae", "64"), "sae.dsae", "sae.d_sae"),
        (("--optimiser.lr", "0.1"), "optimiser.lr", "optimizer.lr"),
        (("--step", "10"), "step", "steps"),
        (("--mesh.features=2",), "mesh.features", "mesh.feature"),
    ],
)
def test_unknown_key_on_the_command_line(refused, base, arguments, key, near):
    line = refused(*base, *arguments)
    assert f"unknown key `{key}`; did you mean '{near}'?" in line


@pytest.mark.parametrize(
    ("content", "key", "near"),
    [
        ({"sae": {"dsae": 64}}, "sae.dsae", "sae.d_sae"),
        ({"optimiser": {"lr": 0.1}}, "optimiser", "optimizer"),
        ({"alocation": "token_choice"}, "alocation", "allocation"),
    ],
)
def test_unknown_key_in_the_file(refused, base, tmp_path, content, key, near):
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    line = refused("--config", tmp_path / "run.yaml", *base)
    assert f"unknown key `{key}" in line
    assert f"did you mean '{near}" in line
    assert str(tmp_path / "run.yaml") in line


def test_config_file_that_is_missing_or_no_yaml_or_no_mapping(refused, base, tmp_path):
    assert f"`config` (={tmp_path}/none.yaml) must be a YAML file that exists" in refused(
        "--config", tmp_path / "none.yaml", *base
    )
    (tmp_path / "bad.yaml").write_text("a: [1,")
    assert "bad.yaml) must be valid YAML" in refused("--config", tmp_path / "bad.yaml", *base)
    (tmp_path / "list.yaml").write_text("- 1")
    assert "list.yaml) must map keys to values; got list" in refused("--config", tmp_path / "list.yaml", *base)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sae.d_sae", "many"), ("`sae.d_sae` (=many) must be a whole number\n",)),
        (("--allocation", "any_choice"), ("`allocation` (=any_choice)", "mutual_choice", "token_choice")),
        (("--optimizer.lr", "fast"), ("`optimizer.lr` (=fast) must be auto or a number\n",)),
        (("--steps", "1.5"), ("`steps` (=1.5) must be a whole number or null\n",)),
    ],
)
def test_values_of_the_wrong_type(refused, base, arguments, words):
    line = refused(*base, *arguments)
    for word in words:
        assert word in line


def test_wrong_type_in_the_file(refused, base, tmp_path):
    (tmp_path / "run.yaml").write_text("sae: {k: few}\n")
    line = refused("--config", tmp_path / "run.yaml", *base)
    assert "sae.k" in line
    assert "few" in line


def test_a_folder_that_holds_another_run(base, tmp_path, capsys):
    arguments = [*base, "--steps", "2", "--batch_tokens", "128", "--sae.d_sae", "64", "--sae.k", "4"]
    assert main(["train", *map(str, arguments)]) == 0
    capsys.readouterr()
    assert main(["train", *map(str, arguments), "--seed", "1"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "`seed` (=1) must stay what the run" in line
    assert "got 0 there" in line


def test_file_and_command_line_together(tiny_store, tmp_path, capsys):
    """The file describes the run, and arguments override it; `off` is the word off."""
    (tmp_path / "run.yaml").write_text(
        f"store: {tiny_store}\nhook: blocks.1.resid_post\nsteps: 4\nbatch_tokens: 128\nwandb: off\n"
        "sae: {d_sae: 128, k: 4}\noptimizer: {lr: 1e-3}\nlog_every: 1\n"
    )
    arguments = [
        "--config",
        tmp_path / "run.yaml",
        "--sae.d_sae",
        "96",
        "--out",
        tmp_path / "run",
        "--allocation",
        "token_choice",
    ]
    assert main(["train", *map(str, arguments)]) == 0
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (written["sae"]["d_sae"], written["sae"]["k"]) == (96, 4)
    assert written["wandb"] == "off"
    assert written["optimizer"]["lr"] == 1e-3
    assert [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()] == [
        1,
        2,
        3,
        4,
    ]
    assert SAE.load(tmp_path / "run").cfg.d_sae == 96
    # The config that a run wrote repeats the run.
    assert main(["train", "--config", str(tmp_path / "run" / "config.yaml"), "--out", str(tmp_path / "again")]) == 0
    first, again = ((tmp_path / name / "sae" / "sae.safetensors").read_bytes() for name in ("run", "again"))
    assert first == again
