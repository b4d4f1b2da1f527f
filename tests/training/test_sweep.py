"""The members of a sweep: one run for each combination of values, and wrong ones refused before any run begins."""

from __future__ import annotations

import pytest
import yaml

from distsae.cli.main import main
from distsae.errors import WrongInput
from distsae.training import OptimizerConfig, SizeConfig, SweepConfig, TrainConfig
from distsae.training.sweep import members


def _config(**changes):
    return TrainConfig(store="store", out="runs", seed=5, sae=SizeConfig(d_sae=64, k=4), **changes)


def test_without_a_sweep_the_config_is_the_only_member():
    assert members(_config()) == {"": _config()}


def test_every_combination_is_a_member():
    sweep = SweepConfig(k=(4, 8), allocation=("token_choice", "mutual_choice"), lr=(1e-3, "auto"), seed=(0, 1))
    found = members(_config(sweep=sweep, optimizer=OptimizerConfig(beta1=0.5), log_every=7))
    assert len(found) == 16
    assert next(iter(found)) == "k-4_allocation-token_choice_lr-0.001_seed-0"
    assert found["k-8_allocation-mutual_choice_lr-auto_seed-1"] == TrainConfig(
        store="store",
        out="runs/k-8_allocation-mutual_choice_lr-auto_seed-1",
        seed=1,
        order_seed=5,  # all members read rows in the same order
        sae=SizeConfig(d_sae=64, k=8),
        allocation="mutual_choice",
        optimizer=OptimizerConfig(lr="auto", beta1=0.5),
        log_every=7,
    )
    assert members(_config(order_seed=9, sweep=SweepConfig(d_sae=(32, 128))))["d_sae-128"].seed_of_order == 9
    assert [c.aux for c in members(_config(sweep=SweepConfig(aux=("aux_k", "none")))).values()] == ["aux_k", "none"]


def test_a_member_that_is_not_a_valid_run_is_named():
    with pytest.raises(WrongInput, match=r"^sweep member k-99_seed-0: `sae.k` \(=99\) must be between 1 and"):
        members(_config(sweep=SweepConfig(k=(4, 99), seed=(0, 1))))
    sweep = SweepConfig(allocation=("mutual_choice", "token_choice"))
    with pytest.raises(WrongInput, match=r"^sweep member allocation-token_choice: `finetune_fc_from`"):
        members(_config(sweep=sweep, finetune_fc_from=0.5))


def test_a_value_given_twice_is_refused():
    with pytest.raises(WrongInput, match=r"`sweep.lr` \(=\[0.1, 0.1\]\) must hold each value once"):
        SweepConfig(lr=(0.1, 0.1))


def test_a_named_checkpoint_is_refused():
    with pytest.raises(WrongInput, match=r"`resume` \(=some/step-00000001\) must be auto or none in a sweep"):
        members(_config(sweep=SweepConfig(seed=(0, 1)), resume="some/step-00000001"))


@pytest.fixture
def base(tiny_store, tmp_path):
    return ["train", "--store", str(tiny_store), "--out", str(tmp_path / "out"), "--wandb", "off", "--sae.d_sae", "64"]


def test_wrong_members_are_refused_before_anything_is_written(base, tmp_path, capsys):
    hook = ["--hook", "blocks.0.resid_post"]
    assert main([*base, *hook, "--sweep.k", "[16,99]"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith("distsae: error: sweep member k-99: `sae.k` (=99)")
    assert main([*base, *hook, "--sweep.allocation", "[token_choice,nobodys_choice]"]) == 2
    assert "`sweep.allocation`" in capsys.readouterr().err
    assert main([*base, *hook, "--sweep.steps", "[1,2]"]) == 2
    assert "unknown key `sweep.steps`" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_folder_of_a_single_run_is_refused(base, tmp_path, capsys):
    arguments = [*base, "--hook", "blocks.0.resid_post", "--steps", "1", "--batch_tokens", "64"]
    assert main(arguments) == 0
    capsys.readouterr()
    assert main([*arguments, "--sweep.seed", "[0,1]"]) == 2
    assert "must be a folder for the runs of a sweep; got the folder of a single run" in capsys.readouterr().err


def test_a_sweep_may_gain_members_but_not_change_them(base, tmp_path, capsys):
    """Each member is compared with the config that it began with."""
    arguments = [*base, "--hook", "blocks.0.resid_post", "--steps", "1", "--batch_tokens", "64", "--sae.k", "4"]
    assert main([*arguments, "--sweep.seed", "[0,1]"]) == 0
    assert main([*arguments, "--sweep.seed", "[1,2]"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"seed-0", "seed-1", "seed-2"}
    written = yaml.safe_load((tmp_path / "out" / "seed-2" / "config.yaml").read_text())
    assert (written["seed"], written["order_seed"], "sweep" in written) == (2, 0, False)
    capsys.readouterr()
    assert main([*arguments, "--sweep.seed", "[0,1]", "--order_seed", "3"]) == 2
    assert "sweep member seed-0: `order_seed` (=3) must stay" in capsys.readouterr().err


def test_a_bounded_store_is_refused(tmp_path, capsys):
    from tests.store.synthetic import attributes, write_store

    write_store(tmp_path / "store", attributes(contexts=200, keep_units=4))
    arguments = ["train", "--store", str(tmp_path / "store"), "--out", str(tmp_path / "out"), "--hook", "a.b"]
    assert main([*arguments, "--batch_tokens", "64", "--sweep.seed", "[0,1]"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "`sweep` must be left out with the bounded store" in line
    assert not (tmp_path / "out").exists()
