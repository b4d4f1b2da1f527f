"""`train`: whole runs on a real store, from the config to the finished SAE, resumed and refused ones too."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from distsae import SAE
from distsae.checkpoint import newest
from distsae.errors import Diverged, WrongInput
from distsae.store import Store
from distsae.training import OptimizerConfig, SizeConfig, TrainConfig, train
from tests.store import synthetic
from tests.training.sample_runs import D_SAE, STEPS, STOP, config_of, metrics, state

METHODS = {
    "MC": {"allocation": "mutual_choice"},
    "MC, FC before the stop": {"allocation": "mutual_choice", "finetune_fc_from": 0.3},
    "MC, FC at the stop": {"allocation": "mutual_choice", "finetune_fc_from": 0.5},
    "MC, FC after the stop": {"allocation": "mutual_choice", "finetune_fc_from": 0.7, "quotas": "uniform"},
    "MC, FC ranked again": {"finetune_fc_from": 0.3, "quota_refresh": 4},  # before and after the stop
    "TC": {"allocation": "token_choice", "aux": "aux_k"},
    "TC, k falls": {"allocation": "token_choice", "sae": SizeConfig(d_sae=D_SAE, k=4, k_start=9, k_anneal_share=0.8)},
    "MC, k falls": {"sae": SizeConfig(d_sae=D_SAE, k=4, k_start=9, k_anneal_share=0.8)},
    "MC, FC after the stop, averaged": {"finetune_fc_from": 0.7, "ema_decay": 0.95},
    "FC": {"allocation": "feature_choice", "aux": "none"},
    "FC in every batch": {"allocation": "feature_choice", "aux": "none", "quotas_hold": "every_batch"},
}


@pytest.fixture(scope="module", params=METHODS, ids=lambda name: name)
def straight(request, tiny_store, tmp_path_factory):
    # With this start every method lowers its loss in 30 steps, also while `k` falls.
    out = tmp_path_factory.mktemp("runs") / "straight"
    config = config_of(tiny_store, out, init_scale=1.0, **METHODS[request.param])
    train(config)
    return config


@pytest.fixture(scope="module")
def mutual(tiny_store, tmp_path_factory):
    """One finished run, for tests that do not depend on the method."""
    config = config_of(tiny_store, tmp_path_factory.mktemp("runs") / "mutual", **METHODS["MC, FC after the stop"])
    train(config)
    return config


def _stopped(straight: TrainConfig, out: Path) -> TrainConfig:
    """Copies the run as a kill some steps after its first checkpoint would leave it."""
    shutil.copytree(straight.out, out)
    shutil.rmtree(out / "sae")
    shutil.rmtree(out / "checkpoints" / f"step-{STEPS:08d}")
    (out / "checkpoints" / "latest").write_text(f"step-{STOP:08d}\n")
    lines = (out / "metrics.jsonl").read_text().splitlines(keepends=True)
    (out / "metrics.jsonl").write_text("".join(lines[:6]) + lines[6][:20])
    return dataclasses.replace(straight, out=str(out))


def test_a_resumed_run_equals_one_without_a_stop_bit_for_bit(straight, tmp_path, capsys):
    stopped = _stopped(straight, tmp_path / "stopped")
    train(stopped)
    assert f"step {STOP}" in capsys.readouterr().err
    assert metrics(Path(stopped.out)) == metrics(Path(straight.out))
    for folder in (f"checkpoints/step-{STEPS:08d}", "sae"):
        assert state(Path(stopped.out) / folder) == state(Path(straight.out) / folder)
        assert state(Path(stopped.out) / folder)


def test_training_a_finished_run_again_changes_nothing(straight, tmp_path):
    finished = dataclasses.replace(straight, out=str(tmp_path / "again"))
    shutil.copytree(straight.out, finished.out)
    train(finished)
    assert (tmp_path / "again" / "metrics.jsonl").read_text() == (Path(straight.out) / "metrics.jsonl").read_text()
    assert state(tmp_path / "again" / "sae") == state(Path(straight.out) / "sae")
    assert newest(tmp_path / "again" / "checkpoints")[0].name == f"step-{STEPS:08d}"


def test_metrics_of_a_run(straight):
    lines = metrics(Path(straight.out))
    assert [line["step"] for line in lines] == [4, 8, 12, 16, 20, 24, 28, 30]
    required = {
        "step",
        "tokens",
        "loss",
        "fvu",
        "aux_loss",
        "l0",
        "dead_share",
        "underutilised_share",
        "threshold",
        "lr",
    }
    for line in lines:
        assert required | {"grad_norm"} <= line.keys()
        assert line["tokens"] == 256 * line["step"]
        steps = range(4 * ((line["step"] - 1) // 4), line["step"])
        ks = [straight.sae.k_at(step, STEPS) for step in steps]
        ks = [round(k) if straight.allocation == "token_choice" else k for k in ks]
        assert line["k"] == ks[-1]
        mean = sum(round(k * 256) for k in ks) / 256 / len(ks)
        assert line["l0"] == pytest.approx(mean - line["shortfall"] / 256)
        assert line["fvu"] == pytest.approx(line["loss"], rel=0.2)  # the denominator is the energy of the batches
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    switch = round((straight.finetune_fc_from or 2) * STEPS)
    for line in lines:
        expected = "feature_choice" if line["step"] - 1 >= switch else straight.allocation
        assert line["allocation"] == expected
        assert (line["threshold"] is None) == (expected == "token_choice")
    if straight.aux != "none":
        assert max(line["aux_share"] for line in lines) > 0  # otherwise the auxiliary loss was never used
        assert max(line["aux_loss"] for line in lines) > 0


def test_the_finished_sae(straight, tiny_store):
    sae = SAE.load(straight.out)
    store = Store.open(tiny_store)
    assert (sae.cfg.d_in, sae.cfg.d_sae, sae.cfg.k) == (32, D_SAE, 4)
    assert sae.cfg.hook_name == "blocks.1.resid_post"
    assert sae.cfg.hook_layer == 1
    assert sae.cfg.store_fingerprint == store.fingerprint
    assert sae.cfg.tokens_seen == STEPS * 256
    assert (sae.cfg.context_size, sae.cfg.prepend_bos) == (32, True)
    x = torch.cat([store.read_chunk("blocks.1.resid_post", chunk) for chunk in store.chunks("heldout")]).float()
    matches = sae.matches(x)
    assert len(matches) / len(x) == pytest.approx(4, rel=0.1)  # calibrated on half of these rows
    error = (sae.decode_matches(matches, x) - x).square().sum()
    assert error < 0.8 * (x - x.mean(0)).square().sum()
    torch.testing.assert_close(sae(x), sae.decode_matches(matches, x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(D_SAE))
    if sae.cfg.allocation == "feature_choice":
        assert sae.quota_per_token.sum().item() == pytest.approx(4)
        assert len(sae.matches(x, "training")) <= 4 * len(x)


def test_the_gap_of_the_frozen_rule_is_written(mutual):
    gap = json.loads((Path(mutual.out) / "frozen_rule.json").read_text())
    assert gap.keys() == {"rows", "l0", "l0_training", "fvu", "fvu_training"}
    assert gap["rows"] == 128
    assert gap["l0"] == pytest.approx(gap["l0_training"], rel=0.2)
    assert gap["fvu"] == pytest.approx(gap["fvu_training"], rel=0.2)


def test_the_whole_config_is_written(mutual):
    import yaml

    written = yaml.safe_load((Path(mutual.out) / "config.yaml").read_text())
    assert written == mutual.stored()


def test_defaults_come_from_the_store(tiny_store, tmp_path, capsys):
    """Without `steps` a run trains for one epoch; `hook` must be given if the store has several."""
    config = config_of(tiny_store, tmp_path / "run", steps=None, batch_tokens=1024, log_every=100)
    train(config)
    rows = Store.open(tiny_store).rows
    assert metrics(tmp_path / "run")[-1]["step"] == rows // 64 // 16
    with pytest.raises(WrongInput, match=r"`hook` must be given; .* holds blocks.0.resid_post, blocks.1.resid_post"):
        train(dataclasses.replace(config, hook=None, out=str(tmp_path / "other")))
    assert not (tmp_path / "other").exists()


def test_wrong_input_is_refused(mutual, tmp_path):
    with pytest.raises(WrongInput, match=r"`sae.k` \(=5\) must stay .*; got 4 there"):
        train(dataclasses.replace(mutual, sae=SizeConfig(d_sae=D_SAE, k=5)))
    with pytest.raises(WrongInput, match="must be a new folder when `resume` is none"):
        train(dataclasses.replace(mutual, resume="none"))
    with pytest.raises(WrongInput, match=r"`resume` \(=.*nowhere\) must be auto, none or a checkpoint folder"):
        train(dataclasses.replace(mutual, resume=str(tmp_path / "nowhere")))


def test_a_run_may_start_from_a_named_checkpoint(mutual, tmp_path):
    first = Path(mutual.out) / "checkpoints" / f"step-{STOP:08d}"
    out = tmp_path / "from"
    train(dataclasses.replace(mutual, out=str(out), resume=str(first)))
    assert state(out / "sae") == state(Path(mutual.out) / "sae")


def test_another_store_is_refused(mutual, tiny_model_dir, tiny_corpus, tmp_path):
    from distsae.producer import ProduceConfig, produce

    other = tmp_path / "other"
    produce(
        ProduceConfig(
            model=str(tiny_model_dir),
            corpus=str(tiny_corpus),
            hooks=("blocks.1.resid_post",),
            out=str(other),
            context_length=32,
            max_rows=3000,
            device="cpu",
        )
    )
    before = state(Path(mutual.out) / "sae")
    with pytest.raises(WrongInput, match=r"`store` .* must be the one that the run began with"):
        train(dataclasses.replace(mutual, store=str(other)))
    assert state(Path(mutual.out) / "sae") == before


def test_a_collapsing_dictionary_is_warned_about(tiny_store, tmp_path, capsys, monkeypatch):
    """One direction dominates the activations, so half of the tokens have the same features."""

    def one_direction(hook, d_in, context_id, position):
        sign = 2.0 * ((context_id * 7 + position) % 2) - 1
        return 100 * sign[:, None] * torch.ones(d_in) + synthetic_activations(hook, d_in, context_id, position) / 60

    synthetic_activations = synthetic.activations
    monkeypatch.setattr(synthetic, "activations", one_direction)
    synthetic.write_store(tmp_path / "store", synthetic.attributes(contexts=400, chunk_rows=64, unit_rows=1000))
    changes = {"hook": "a.b", "batch_tokens": 64, "sae": SizeConfig(d_sae=200, k=2), "steps": 12}
    train(config_of(tmp_path / "store", tmp_path / "run", **changes))
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: step")]
    lines = metrics(tmp_path / "run")
    assert max(line["token_overlap"] for line in lines) > 0.3
    assert [line.split(": ")[2].split()[0] for line in warnings] == ["token_overlap"]  # once
    assert all(0 <= line["top_feature_share"] <= 1 for line in lines)
    first = next(line["step"] for line in lines if line["token_overlap"] > 0.3)
    assert warnings[0].startswith(f"warning: step {first}: ")
    healthy = config_of(tiny_store, tmp_path / "healthy", steps=12, log_every=2)
    train(healthy)
    assert "warning: step" not in capsys.readouterr().err


def test_a_run_that_diverges_names_the_step(tiny_store, tmp_path):
    config = config_of(tiny_store, tmp_path / "run", optimizer=OptimizerConfig(lr=1e38, warmup_share=0.0))
    with pytest.raises(Diverged, match=r"step \d+: \d+ scores are not finite.*optimizer.lr"):
        train(config)


@pytest.mark.parametrize("normalise", ["none", "centre"])
def test_the_sae_works_on_raw_activations_however_they_were_normalised(normalise, tiny_store, tmp_path):
    """Its FVU on raw rows is that of training on normalised rows."""
    config = config_of(tiny_store, tmp_path / "run", normalise=normalise, steps=20)
    train(config)
    sae, store = SAE.load(tmp_path / "run" / "sae"), Store.open(tiny_store)
    assert sae.cfg.normalise == normalise
    assert (sae.cfg.normalisation_scale == 1) == (normalise == "none")
    raw = torch.cat([store.read_chunk(config.hook, chunk) for chunk in store.chunks()]).float()
    with torch.no_grad():
        unexplained = (raw - sae.decode(sae.encode(raw))).square().sum() / (raw - raw.mean(0)).square().sum()
    assert float(unexplained) == pytest.approx(metrics(tmp_path / "run")[-1]["fvu"], rel=0.15)
    assert float(unexplained) < 0.9


@pytest.mark.parametrize("normalise", ["none", "scale", "centre"])
@pytest.mark.parametrize("value", [0.0, 1.7])
def test_rows_that_are_all_equal_are_refused(value, normalise, tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "activations", lambda hook, d_in, c, p: torch.full((len(c), d_in), value))
    synthetic.write_store(tmp_path / "store", synthetic.attributes(contexts=400, chunk_rows=64, unit_rows=1000))
    config = config_of(tmp_path / "store", tmp_path / "run", hook="a.b", normalise=normalise)
    with pytest.raises(WrongInput, match=r"`hook` \(=a.b\) must have rows that differ"):
        train(config)
    assert not (tmp_path / "run").exists()
