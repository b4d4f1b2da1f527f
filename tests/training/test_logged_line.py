"""A logged line: its keys are those of `metrics.jsonl`, and its warnings come once."""

from __future__ import annotations

import json

import pytest
import torch

from distsae.batches import Batch
from distsae.losses import AlarmConfig
from distsae.parallel import MeshConfig, build_mesh
from distsae.training import SizeConfig, TrainConfig, TrainingState, initial_state, train, training_step
from distsae.training.freezing import FrozenGap
from distsae.training.logged_line import logged_line, shown_values
from tests.training.sample_runs import config_of
from tests.training.samples import BATCH, D_SAE, K, activations, mean_and_variance, shard_on

MESH = build_mesh(MeshConfig(), 1, "cpu")


def _state(**changes) -> TrainingState:
    config = TrainConfig(
        store="s", out="o", sae=SizeConfig(d_sae=D_SAE, k=K), steps=20, batch_tokens=BATCH, log_every=1, **changes
    )
    return initial_state(config, shard_on(MESH, torch.float32), MESH, *mean_and_variance(torch.float32))


def _line_after(state: TrainingState, steps: int, gap: FrozenGap | None = None):
    for _ in range(steps):
        settings = training_step(state, Batch(activations(state.step, torch.float32, tokens=BATCH)))
    return logged_line(state, settings, gap)


def test_keys_are_those_of_a_run(tiny_store, tmp_path):
    train(config_of(tiny_store, tmp_path / "run", steps=1, log_every=1))
    (written,) = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    values, warnings = _line_after(_state(), 1)
    assert list(values) == list(written)
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert warnings == []


def test_a_line_is_about_the_steps_since_the_last_line():
    state, straight = _state(), _state()
    (first, _), (second, _) = _line_after(state, 3), _line_after(state, 2)
    whole, _ = _line_after(straight, 5)
    assert (first["step"], second["step"], whole["step"]) == (3, 5, 5)
    assert (3 * first["loss"] + 2 * second["loss"]) / 5 == pytest.approx(whole["loss"])
    for name in ("lr", "threshold", "allocation", "k", "tokens", "dead_share", "token_overlap"):
        assert second[name] == whole[name], name
    assert (second["l0"], second["k"], second["allocation"], second["tokens"]) == (K, K, "mutual_choice", 5 * BATCH)
    assert second["threshold"] == pytest.approx(float(state.thresholds.thresholds()[0]))


def test_held_out_figures_are_null_unless_they_were_measured():
    keys = ("heldout_fvu", "heldout_l0", "heldout_frozen_fvu", "heldout_frozen_l0")
    without, _ = _line_after(_state(), 1)
    measured, _ = _line_after(_state(), 1, FrozenGap(100, l0=3.5, l0_training=4.0, fvu=0.25, fvu_training=0.5))
    assert [without[key] for key in keys] == [None] * 4
    assert [measured[key] for key in keys] == [0.5, 4.0, 0.25, 3.5]


def test_a_warning_comes_once():
    state = _state(alarms=AlarmConfig(token_overlap=1e-6))
    (first, warnings), (second, again) = _line_after(state, 1), _line_after(state, 1)
    assert min(first["token_overlap"], second["token_overlap"]) > 1e-6
    (warning,) = warnings
    assert warning.startswith("warning: step 1: token_overlap ")
    assert again == []


def test_the_progress_bar_shows_values_of_the_line():
    line, _ = _line_after(_state(), 1)
    assert shown_values(line) == {
        "loss": line["loss"],
        "L0": line["l0"],
        "dead": line["dead_share"],
        "tok_s": line["tokens_per_second"],
    }
