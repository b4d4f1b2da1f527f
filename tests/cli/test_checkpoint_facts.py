"""What a checkpoint tells about its run, also if it holds fewer facts than a new one does."""

from __future__ import annotations

import time

import pytest

from distsae.checkpoint import save
from distsae.checkpoint.inspecting import contents
from distsae.cli.checkpoint_facts import shown_config, summary_of, when
from tests.checkpoint.samples import cut, whole


def _summary(folder, step, facts):
    return summary_of(contents(save(folder, step, cut(whole(1), 1, 0), facts)))


@pytest.mark.parametrize(
    ("allocation", "switch_step", "step", "phase"),
    [
        ("token_choice", None, 10, "Token Choice"),
        ("feature_choice", None, 10, "Feature Choice"),
        ("mutual_choice", 1000, 999, "Mutual Choice; Feature Choice from step 1,001 on"),
        ("mutual_choice", 1000, 1000, "Mutual Choice; Feature Choice from step 1,001 on"),
        ("mutual_choice", 1000, 1001, "Feature Choice, since step 1,001"),
    ],
)
def test_the_phase_is_that_of_the_last_step(tmp_path, allocation, switch_step, step, phase):
    facts = {"config": {"allocation": allocation}, "switch_step": switch_step}
    assert _summary(tmp_path, step, facts)["phase"] == phase


def test_facts_that_it_does_not_hold_are_unknown(tmp_path):
    summary = _summary(tmp_path, 3, {})
    assert summary["step"] == 3
    unknown = ("tokens", "phase", "training_seconds", "distsae_version", "store", "store_fingerprint")
    assert [summary[name] for name in unknown] == [None] * len(unknown)
    odd = _summary(tmp_path, 4, {"config": "none", "meter": 7, "switch_step": "x"})
    assert [odd[name] for name in unknown] == [None] * len(unknown)
    assert shown_config("none") == {}


def test_facts_that_it_holds(tmp_path):
    facts = {"config": {"batch_tokens": 256, "store": "s"}, "meter": {"seconds": 12.34567}, "distsae_version": "0.1.0"}
    summary = _summary(tmp_path, 10, facts)
    assert (summary["tokens"], summary["training_seconds"], summary["store"]) == (2560, 12.346, "s")
    assert summary["distsae_version"] == "0.1.0"


def test_keys_are_shown_flat_and_in_order():
    config = {
        "optimizer": {"lr": 0.1, "clip_norm": None},
        "mesh": {"data": 1, "feature": 2},
        "sae": {"k": 4, "d_sae": 8, "k_start": 9},
        "seed": 0,
        "aux": "none",
        "wandb": "off",
    }
    assert list(shown_config(config).items()) == [
        ("aux", "none"),
        ("sae.d_sae", 8),
        ("sae.k", 4),
        ("mesh.data", 1),
        ("mesh.feature", 2),
        ("seed", 0),
        ("optimizer.lr", 0.1),
    ]


def test_times_are_local_with_their_offset(monkeypatch):
    monkeypatch.setenv("TZ", "IST-5:30")  # needs no time zone database
    time.tzset()
    try:
        assert when(0.0) == "1970-01-01 05:30:00+05:30"
    finally:
        monkeypatch.undo()
        time.tzset()
    assert when(None) == "unknown"
