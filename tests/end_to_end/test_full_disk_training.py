"""A disk that fills up while a run trains: the checkpoint before stays, the run goes on, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from distsae.checkpoint import verify
from distsae.cli.main import main
from distsae.exit_codes import DONE, FAILED
from distsae.training.folder.checkpoints import RunCheckpoints
from tests.end_to_end.launching import train_words
from tests.end_to_end.small_disk import LARGE, SmallDisk, disk
from tests.training.sample_runs import metrics, state

__all__ = ["disk"]

STEPS, EVERY = 30, 5
LAST = f"checkpoints/step-{STEPS:08d}"


def _arguments(store: Path, out: Path) -> list[str]:
    values = {
        "store": store,
        "out": out,
        "hook": "blocks.1.resid_post",
        "steps": STEPS,
        "batch_tokens": 256,
        "sae.d_sae": 512,
        "sae.k": 4,
        "checkpoint.every": EVERY,
        "checkpoint.keep_last": 1,
        "log_every": 1,
        "wandb": "off",
    }
    return train_words(values)


@pytest.fixture(scope="module")
def straight(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight") / "run"
    assert main(_arguments(tiny_store, out)) == DONE
    return out


def _same(straight: Path, out: Path) -> None:
    for folder in (LAST, "sae"):
        assert state(out / folder) == state(straight / folder)
    assert metrics(out) == metrics(straight)


def test_room_for_one_checkpoint_and_a_half(disk: SmallDisk, straight, tiny_store, capsys):
    """Every checkpoint but the first fails: the old one is never given up for a new one that does not fit."""
    out = disk.path / "run"
    size = sum(file.stat().st_size for file in (straight / LAST).iterdir())
    disk.resize(size + size // 2)
    capsys.readouterr()
    assert main(_arguments(tiny_store, out)) == FAILED
    said = capsys.readouterr().err
    assert said.count("warning: the checkpoint of step") == STEPS // EVERY - 1
    assert "bytes are free); it needs " in said
    assert "training goes on" in said
    assert f"wrote {out}/sae" in said
    assert f"distsae: error: the checkpoint of step {STEPS} could not be completed" in said
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["latest", f"step-{EVERY:08d}"]
    assert verify(out / "checkpoints" / f"step-{EVERY:08d}") == []
    assert metrics(out) == metrics(straight)

    disk.resize(LARGE)
    assert main(_arguments(tiny_store, out)) == DONE
    assert f"resumed from {out}/checkpoints/step-{EVERY:08d}" in capsys.readouterr().err
    _same(straight, out)


def test_not_a_byte_is_left_for_a_while(disk: SmallDisk, straight, tiny_store, capsys, monkeypatch):
    """Neither checkpoints nor lines of metrics can be written; then somebody makes room, and the run is whole."""
    out = disk.path / "run"
    ended = RunCheckpoints._ended
    ballast = []

    def fills_then_frees(checkpoints, done, failure):
        ended(checkpoints, done, failure)
        if done == EVERY:
            ballast.append(disk.fill())
        elif done == 4 * EVERY:
            ballast.pop().unlink()

    monkeypatch.setattr(RunCheckpoints, "_ended", fills_then_frees)
    capsys.readouterr()
    assert main(_arguments(tiny_store, out)) == DONE
    said = capsys.readouterr().err
    assert said.count("warning: the checkpoint of step") == 3
    assert "metrics.jsonl could not be written ([Errno 28] No space left on device" in said
    _same(straight, out)
