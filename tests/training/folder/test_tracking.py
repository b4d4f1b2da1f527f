"""wandb offline, with its real library: a run of its own, which a resumed run goes on in; off is off."""

from __future__ import annotations

from pathlib import Path

import pytest

from distsae.training import TrainConfig
from distsae.training.folder import RunFolder, start_tracking
from distsae.training.guards import start_accelerator


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)


def _config(out: Path, **changes) -> TrainConfig:
    return TrainConfig(store="s", out=str(out), **changes)


def test_off_takes_values_and_writes_nothing(alone, tmp_path):
    config = _config(tmp_path, wandb="off")
    accelerator = start_accelerator(config)
    start_tracking(accelerator, config)({"loss": 1.0}, 1)
    assert accelerator.trackers == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("member", ["", "k-4"], ids=["a run", "a member of a sweep"])
def test_offline_keeps_one_identity_for_every_process_of_a_run(member, alone, tmp_path):
    identities = []
    for step in (1, 2):
        config = _config(tmp_path / "run", wandb="offline")
        Path(config.out).mkdir(exist_ok=True)
        accelerator = start_accelerator(config)
        start_tracking(accelerator, config, member)({"loss": 0.5}, step)
        (tracker,) = accelerator.trackers
        identities.append(tracker.tracker.id)
        accelerator.end_training()
    assert identities == [RunFolder(config.out).tracking_id()] * 2
    assert len(list((tmp_path / "run" / "wandb").glob("offline-run-*"))) == 2
