"""`--dry_run`, `--memory_gb` and `--check` beside the keys of a run."""

import dataclasses

from distsae.cli.main import main
from distsae.cli.train_arguments import TrainArguments
from distsae.training import SizeConfig, TrainConfig


def test_the_run_is_all_but_the_planning():
    arguments = TrainArguments(store="s", out="o", sae=SizeConfig(d_sae=128), dry_run=True, memory_gb=3)
    assert arguments.config() == TrainConfig(store="s", out="o", sae=SizeConfig(d_sae=128))
    assert type(arguments.config()) is TrainConfig
    assert "dry_run" not in {field.name for field in dataclasses.fields(arguments.config())}


def test_a_dry_run_prints_the_plan_and_is_done(tiny_store, tmp_path, capsys):
    base = ["--store", str(tiny_store), "--out", str(tmp_path / "run"), "--hook", "blocks.0.resid_post"]
    sizes = ["--batch_tokens", "256", "--sae.d_sae", "512", "--mesh.feature", "2", "--wandb", "off"]
    assert main(["train", *base, *sizes, "--dry-run", "--memory-gb", "4"]) == 0
    out = capsys.readouterr().out
    assert "Adam's moments" in out
    assert "8.00 GiB for 2 processes" in out
    assert not (tmp_path / "run").exists()


def test_memory_without_a_dry_run_is_refused(tiny_store, tmp_path, capsys):
    assert main(["train", "--store", str(tiny_store), "--out", str(tmp_path / "run"), "--memory_gb", "4"]) == 2
    assert "--dry_run" in capsys.readouterr().err


def test_a_check_without_a_dry_run_is_refused(tiny_store, tmp_path, capsys):
    assert main(["train", "--store", str(tiny_store), "--out", str(tmp_path / "run"), "--check", "check.json"]) == 2
    assert "`check` (=check.json) must be given with `dry_run`" in capsys.readouterr().err


def test_help_has_the_keys_of_a_run_and_these(capsys):
    assert main(["train", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())  # at any width of the terminal
    assert "print the memory that each process would take" in out
    assert "sealed activation store to read" in out
