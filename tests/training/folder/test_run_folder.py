"""A run folder holds one run: one of other mathematics is refused, and so is a second job at the same time."""

import dataclasses

import pytest
import torch

from distsae.errors import CannotContinue, WrongInput
from distsae.model import SAE, SAEConfig
from distsae.parallel import MeshConfig
from distsae.training import AuxiliaryConfig, CheckpointConfig, OptimizerConfig, SizeConfig, TrainConfig
from distsae.training.folder.run_folder import RunFolder, refuse_other_mathematics


@pytest.fixture
def config(tmp_path):
    return TrainConfig(store="store", out=str(tmp_path / "run"), hook="h", steps=10)


@pytest.fixture
def folder(config):
    folder = RunFolder(config.out)
    folder.check(config)  # the folder does not exist yet
    folder.write_config(config)
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, r"`seed` \(=1\) must stay .* got 0 there"),
        ({"sae": SizeConfig(d_sae=8192)}, r"`sae.d_sae` \(=8192\) .* got 4096 there"),
        ({"optimizer": OptimizerConfig(lr=0.1)}, r"`optimizer.lr` \(=0.1\) .* got auto there"),
        ({"optimizer": OptimizerConfig(state="bf16")}, r"`optimizer.state` \(=bf16\) .* got fp32 there"),
        ({"auxiliary": AuxiliaryConfig(rho=0.2)}, r"`auxiliary.rho` \(=0.2\) .* got 0.1 there"),
        ({"allocation": "token_choice"}, r"`allocation` \(=token_choice\) .* got mutual_choice there"),
        ({"hook": "other"}, r"`hook` \(=other\) .* got h there"),
        ({"finetune_fc_from": 0.5}, r"`finetune_fc_from` \(=0.5\) .* got None there"),
        ({"batch_tokens": 8192}, r"`batch_tokens` \(=8192\)"),
    ],
)
def test_other_mathematics_is_refused_with_both_values(folder, config, change, message):
    with pytest.raises(WrongInput, match=message):
        folder.check(dataclasses.replace(config, **change))


def test_how_a_run_is_carried_out_may_change(folder, config):
    folder.check(config)
    folder.check(
        dataclasses.replace(
            config,
            store="moved",
            steps=20,
            wandb="off",
            log_every=1,
            resume="auto",
            hang_seconds=None,
            mesh=MeshConfig(feature=4),
            checkpoint=CheckpointConfig(every=3),
            engine="deepspeed",
        )
    )
    folder.check(dataclasses.replace(config, optimizer=OptimizerConfig(divide_moments=True)))


def test_a_run_from_before_moments_could_be_divided_may_divide_them(config):
    before = config.stored()
    del before["optimizer"]["divide_moments"]
    divided = dataclasses.replace(config, optimizer=OptimizerConfig(divide_moments=True))
    assert refuse_other_mathematics(before, config, "there") == []
    changes = refuse_other_mathematics(before, divided, "there")
    assert changes == ["`optimizer.divide_moments` True (was False)"]


def test_resume_none_requires_a_new_folder(folder, config, tmp_path):
    refusing = dataclasses.replace(config, resume="none")
    with pytest.raises(WrongInput, match=r"`out` \(=.*run\) must be a new folder when `resume` is none"):
        folder.check(refusing)
    RunFolder(tmp_path / "new").check(refusing)


def test_small_numbers_survive_the_yaml(config, tmp_path):
    small = dataclasses.replace(config, optimizer=OptimizerConfig(lr=1e-5, eps=1e-12), wandb="off")
    folder = RunFolder(tmp_path / "small")
    folder.write_config(small)
    folder.check(small)


def test_one_job_at_a_time(folder):
    second = RunFolder(folder.path, patience=0.0)
    folder.lock()
    folder.lock()
    with pytest.raises(CannotContinue, match=r"`out` .* must be used by one job at a time"):
        second.lock()
    folder.close()
    second.lock()
    second.close()


def test_a_run_has_one_id_in_wandb(folder, tmp_path):
    tracking_id = folder.tracking_id()
    assert RunFolder(folder.path).tracking_id() == tracking_id
    other = RunFolder(tmp_path / "other")
    other.path.mkdir()
    assert other.tracking_id() != tracking_id


def test_a_kill_while_the_config_is_written_leaves_the_old_one(folder, config, monkeypatch):
    before = (folder.path / "config.yaml").read_text()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", killed)
    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.write_config(dataclasses.replace(config, seed=5))
    assert (folder.path / "config.yaml").read_text() == before


def test_the_sae_of_the_end_of_a_run(folder, config):
    cfg = SAEConfig(
        d_in=2,
        d_sae=3,
        k=1,
        allocation="token_choice",
        hook_name="h",
        hook_layer=None,
        model_name="m",
        context_size=4,
        prepend_bos=True,
        tokens_seen=640,
    )
    sae = SAE(cfg, torch.zeros(2, 3), torch.zeros(3, 2), torch.zeros(3), torch.zeros(2))
    assert not folder.holds_sae_of(640)
    sae.save(folder.sae)
    assert folder.holds_sae_of(640)
    assert not folder.holds_sae_of(1280)  # the run has been resumed with more steps since
    weights, written = folder.sae / "sae.safetensors", folder.sae / "config.json"
    weights.rename(folder.sae / "elsewhere")
    assert not folder.holds_sae_of(640)
    (folder.sae / "elsewhere").rename(weights)
    for damaged in (written.read_text()[:-9], "{}", "[]"):
        written.write_text(damaged)
        assert not folder.holds_sae_of(640)


def test_a_key_that_the_run_did_not_have_yet_counts_as_its_default_or_as_what_runs_did_before(config):
    before = config.stored()
    for key in ("ema_decay", "normalise", "max_norm_ratio"):
        del before[key]
    del before["optimizer"]["decoder_rate"]
    equal_rates = OptimizerConfig(decoder_rate=1.0)
    as_before = dataclasses.replace(config, normalise="scale", max_norm_ratio="none", optimizer=equal_rates)
    refuse_other_mathematics(before, as_before, "there")
    with pytest.raises(WrongInput, match=r"`ema_decay` \(=0.9\) must stay .* got None there"):
        refuse_other_mathematics(before, dataclasses.replace(as_before, ema_decay=0.9), "there")
    with pytest.raises(WrongInput, match=r"`normalise` \(=token\) must stay .* got scale there"):
        refuse_other_mathematics(before, dataclasses.replace(as_before, normalise="token"), "there")
    with pytest.raises(WrongInput, match=r"`max_norm_ratio` \(=10.0\) must stay .* got none there"):
        refuse_other_mathematics(before, dataclasses.replace(as_before, max_norm_ratio=10.0), "there")
    with pytest.raises(WrongInput, match=r"`optimizer.decoder_rate` \(=3.0\) must stay .* got 1.0 there"):
        refuse_other_mathematics(before, dataclasses.replace(as_before, optimizer=OptimizerConfig()), "there")
