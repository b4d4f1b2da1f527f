"""Measurements on held-out rows during training: they are those of the finished SAE, and do not change training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from distsae.errors import WrongInput
from distsae.store import Store
from distsae.training import train
from distsae.training.freezing import heldout_check
from distsae.training.freezing.heldout_check import heldout_values
from distsae.training.freezing.heldout_rows import heldout_rows
from tests.store import synthetic
from tests.training.sample_runs import config_of, metrics, state

KEYS = ("heldout_fvu", "heldout_l0", "heldout_frozen_fvu", "heldout_frozen_l0")
METHODS = {
    "MC, FC": {"finetune_fc_from": 0.5},
    "TC": {"allocation": "token_choice"},
    "MC, averaged": {"ema_decay": 0.9},
}


@pytest.mark.parametrize("method", METHODS)
def test_training_is_the_same_with_and_without_measurements(method, tiny_store, tmp_path):
    without = config_of(tiny_store, tmp_path / "without", **METHODS[method])
    measured = dataclasses.replace(without, out=str(tmp_path / "measured"), evaluate_every=8)
    train(without)
    train(measured)
    lines, others = metrics(Path(measured.out)), metrics(Path(without.out))
    assert [line["step"] for line in lines if line["heldout_fvu"] is not None] == [8, 16, 24, 30]
    for line, other in zip(lines, others, strict=True):
        assert all(other[key] is None for key in KEYS)
        assert len({line[key] is None for key in KEYS}) == 1
        assert {k: v for k, v in line.items() if k not in KEYS} == {k: v for k, v in other.items() if k not in KEYS}
    for part in ("sae", "checkpoints/step-00000015", "checkpoints/step-00000030"):
        assert state(Path(measured.out) / part) == state(Path(without.out) / part)
    for line in (line for line in lines if line["heldout_fvu"] is not None):
        assert line["heldout_l0"] == pytest.approx(4, rel=0.02)
        assert line["heldout_fvu"] == pytest.approx(line["fvu"], rel=0.35)  # an average lags behind the last weights
        frozen = [line["heldout_frozen_fvu"], line["heldout_frozen_l0"]]
        if line["allocation"] == "token_choice":
            assert frozen == [line["heldout_fvu"], line["heldout_l0"]]
        elif line["allocation"] == "mutual_choice" and method != "MC, averaged":  # the thresholds of the last weights
            assert frozen == pytest.approx([line["heldout_fvu"], line["heldout_l0"]], rel=0.3)


def test_the_last_measurement_is_the_gap_at_the_end(tiny_store, tmp_path):
    """With Token Choice, which needs no calibration."""
    config = config_of(tiny_store, tmp_path / "run", allocation="token_choice", evaluate_every=20, ema_decay=0.9)
    train(config)
    end, last = json.loads((tmp_path / "run" / "frozen_rule.json").read_text()), metrics(tmp_path / "run")[-1]
    assert (last["heldout_fvu"], last["heldout_l0"]) == (end["fvu_training"], end["l0_training"])


def test_judging_rows_are_read_once_and_no_others_are_used(tiny_store, tmp_path, monkeypatch):
    reads = []

    def recorded(store, hook, max_norm):
        reads.append(hook)
        _, judging_rows = heldout_rows(store, hook, max_norm)
        return torch.zeros(0, 32), judging_rows

    monkeypatch.setattr(heldout_check, "heldout_rows", recorded)
    train(config_of(tiny_store, tmp_path / "run", steps=12, evaluate_every=4))
    assert reads == ["blocks.1.resid_post"]


def test_a_store_without_heldout_rows_is_refused(tmp_path):
    path = synthetic.write_store(
        tmp_path / "store", synthetic.attributes(contexts=400, chunk_rows=64, unit_rows=1000, heldout_contexts=0)
    ).path
    assert Store.open(path).heldout_rows == 0
    with pytest.raises(WrongInput, match=r"`evaluate_every` \(=4\) must be left out: .* has no held-out rows"):
        train(config_of(path, tmp_path / "run", hook="a.b", evaluate_every=4))
    assert not (tmp_path / "run").exists()


def test_values_without_a_measurement_are_null():
    assert heldout_values(None) == dict.fromkeys(KEYS)
