"""Runs on a store with outliers and an excluded token: equal on every mesh, and resumed bit for bit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from distsae import SAE
from distsae.batches import BatchReader
from distsae.store import Store
from distsae.training import train
from tests.distributed.meshed_runs import Layout, walked
from tests.distributed.processes import run_on_mesh
from tests.store.outlier_store import D_IN, HOOK, outlier_store
from tests.training.sample_runs import STEPS, STOP, config_of, metrics
from tests.training.samples import RULES

WEIGHTS = 5e-6
"""Largest difference between meshes that round some sums differently, relative to the largest weight."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return outlier_store(tmp_path_factory.mktemp("stores") / "outliers").path


def _config(store, out, rule, **changes):
    values = {"hook": HOOK, "allocation": rule, "prefilter": "bf16", "normalise": "token", "batch_tokens": 256}
    return config_of(store, out, **(values | changes))


@pytest.mark.parametrize("rule", RULES)
def test_meshes_agree_and_a_resumed_run_is_the_straight_one(rule, store, tmp_path):
    states = {}
    for shape in ((1, 1), (2, 1), (1, 2)):
        config = Layout(shape).of(_config(store, tmp_path / f"{shape[0]}x{shape[1]}", rule))
        states[shape] = run_on_mesh(walked, shape, config, [1, STEPS])[0]
    for alone, split in zip(states[1, 1], states[2, 1], strict=True):
        for name, tensor in alone.items():
            assert torch.equal(split[name], tensor), name
    for alone, split in zip(states[1, 1], states[1, 2], strict=True):
        for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
            assert (split[name] - alone[name]).abs().max() < WEIGHTS * alone["W_enc"].abs().max(), name

    resumed = _config(store, tmp_path / "resumed", rule)
    run_on_mesh(walked, (1, 1), resumed, [STOP])  # its checkpoint is saved, and the process gone
    (again,) = run_on_mesh(walked, (1, 1), resumed, [STEPS])[0]
    for name, tensor in states[1, 1][-1].items():
        assert torch.equal(again[name], tensor), name


def _kept(rows, limit):
    norms = rows.double().norm(dim=1)
    return rows[(norms > 0) & (norms <= limit)]


@pytest.fixture(scope="module", params=RULES)
def finished(request, store, tmp_path_factory):
    config = _config(store, tmp_path_factory.mktemp("runs") / "run", request.param)
    train(config)
    return config


def test_outliers_get_no_matches_and_count_in_nothing(finished):
    lines = metrics(Path(finished.out))
    left_out = sum(line["rows_left_out"] for line in lines)
    rows = STEPS * finished.batch_tokens
    assert 0.5 * rows * (1 / 72 + 1 / 50) < left_out < 2 * rows * (1 / 72 + 1 / 50)
    for line in lines:
        assert line["fvu"] < 1
        if finished.allocation != "token_choice":
            assert line["l0"] == pytest.approx(4, rel=1e-3)
    assert lines[-1]["fvu"] < 0.9 * lines[0]["fvu"]


def test_the_frozen_rule_is_calibrated_on_the_other_rows(finished, store):
    sae, opened = SAE.load(finished.out), Store.open(store)
    limit = opened.norms(HOOK).limit(10.0)
    assert sae.cfg.max_norm == limit
    assert 0 < sae.cfg.init_scale < 1
    rows = torch.cat([opened.read_chunk(HOOK, chunk) for chunk in opened.chunks("heldout")]).float()
    kept = _kept(rows, limit)
    assert 10 < len(rows) - len(kept) < 30
    assert len(sae.matches(kept)) / len(kept) == pytest.approx(4, rel=0.1)
    with torch.no_grad():
        fvu = float((sae(kept) - kept).square().sum() / (kept - kept.mean(0)).square().sum())
    gap = json.loads((Path(finished.out) / "frozen_rule.json").read_text())
    assert gap["fvu"] == pytest.approx(fvu, rel=0.2)
    assert fvu < 1


@pytest.mark.parametrize("normalise", ["none", "scale", "centre", "token"])
def test_statistics_and_batches_leave_the_same_rows_out(normalise, store):
    opened = Store.open(store)
    limit = opened.norms(HOOK).limit(10.0)
    reader = BatchReader(opened, HOOK, 256, 0, 0, 1, normalise, limit)
    batches = [reader.batch(step) for step in range(reader.order.steps_per_epoch)]
    kept = []
    for batch in batches:
        mask = torch.ones(256, dtype=torch.bool)
        mask[batch.left_out] = False
        kept.append(batch.x[mask].clone())
    reader.close()
    rows = torch.cat(kept)
    mean, variance = reader.normalisation.moments(reader.statistics)
    whole = torch.cat([opened.read_chunk(HOOK, chunk) for chunk in opened.chunks()]).float()
    whole = reader.normalisation.apply(_kept(whole, limit))
    assert reader.statistics.rows == len(whole) == pytest.approx(len(rows), abs=256)
    assert rows.shape[1] == D_IN
    torch.testing.assert_close(mean, whole.mean(0), rtol=1e-4, atol=1e-4)
    assert variance == pytest.approx(float((whole - whole.mean(0)).square().sum(1).mean()), rel=1e-4)


def test_none_keeps_every_row_but_those_of_excluded_tokens(store, tmp_path):
    config = _config(store, tmp_path / "run", "mutual_choice", max_norm_ratio="none", normalise="scale")
    train(dataclasses.replace(config, steps=4))
    reader = BatchReader(Store.open(store), HOOK, 256, config.seed_of_order, 0, 1, "none")
    zeros = sum(int((reader.batch(step).x == 0).all(1).sum()) for step in range(4))
    reader.close()
    assert [line["rows_left_out"] for line in metrics(tmp_path / "run")] == [zeros]
    assert 4 * 256 / 100 < zeros < 4 * 256 / 25
    assert SAE.load(tmp_path / "run").cfg.max_norm is None
