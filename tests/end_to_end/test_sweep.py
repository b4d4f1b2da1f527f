"""A sweep under accelerate launch, on two processes: its members, one that diverges, and going on after a kill."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from distsae import SAE
from distsae.cli.main import main
from distsae.exit_codes import DIVERGED
from tests.end_to_end.launching import launch, train_words
from tests.end_to_end.runs import assert_same_but_for_rounding


def _arguments(store: Path, out: Path, **changes: object) -> list[str]:
    values = {
        "store": store,
        "out": out,
        "hook": "blocks.0.resid_post",
        "steps": 8,
        "batch_tokens": 256,
        "sae.d_sae": 128,
        "sae.k": 4,
        "optimizer.warmup_share": 0.0,
        "checkpoint.every": 1,
        "checkpoint.keep_last": 9,
        "log_every": 1,
        "wandb": "off",
    }
    return train_words(values | changes)


def _state(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*.safetensors"))}


def test_two_processes_train_what_one_does_and_go_on(tiny_store, tmp_path):
    """The second launch finds one member five steps behind the other, and one that can never end."""
    sweep = {"sweep.lr": "[2e-3,1e38,5e-3]"}
    assert main(_arguments(tiny_store, tmp_path / "alone", **sweep)) == DIVERGED
    out = tmp_path / "sweep"
    done = launch(_arguments(tiny_store, out, **sweep, **{"mesh.feature": 2}))
    assert done.returncode != 0
    assert done.stderr.count("lr-1e+38: stopped: step") == 1
    assert "1 of 3 members of the sweep stopped: lr-1e+38: step" in done.stderr
    good = ("lr-0.002", "lr-0.005")
    for name in good:
        sae, single = SAE.load(out / name), SAE.load(tmp_path / "alone" / name)
        assert_same_but_for_rounding(sae, single)
    straight = {name: _state(out / name) for name in good}
    for step in range(4, 9):
        shutil.rmtree(out / good[0] / "checkpoints" / f"step-{step:08d}")
    for name in good:
        shutil.rmtree(out / name / "sae")
    again = launch(_arguments(tiny_store, out, **{"sweep.lr": "[2e-3,5e-3]", "mesh.feature": 2}))
    assert again.returncode == 0, again.stderr
    assert f"{good[0]}: resumed from {out / good[0]}/checkpoints/step-00000003" in again.stderr
    assert {name: _state(out / name) for name in good} == straight


@pytest.mark.heavy
def test_deepspeed_engines_side_by_side(tiny_store, tmp_path):
    """Each member's sharded state is its own, after a resume too."""
    pytest.importorskip("deepspeed")
    changes = {"mesh.data": 2, "engine": "deepspeed", "optimizer.lr": 2e-3}
    out = tmp_path / "sweep"
    done = launch(_arguments(tiny_store, out, **changes, **{"sweep.k": "[4,6]", "sweep.d_sae": "[128,96]"}))
    assert done.returncode == 0, done.stderr
    straight = _state(out)
    assert len([name for name in straight if name.endswith("sae/sae.safetensors")]) == 4
    member = out / "d_sae-96_k-6"
    alone = launch(
        ["train", "--wandb", "off", "--out", str(tmp_path / "alone"), "--config", str(member / "config.yaml")]
    )
    assert alone.returncode == 0, alone.stderr
    assert _state(tmp_path / "alone") == _state(member)
    for step in range(4, 9):
        shutil.rmtree(member / "checkpoints" / f"step-{step:08d}")
    again = launch(_arguments(tiny_store, out, **changes, **{"sweep.k": "[4,6]", "sweep.d_sae": "[128,96]"}))
    assert again.returncode == 0, again.stderr
    assert _state(out) == straight
