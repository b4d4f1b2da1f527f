"""wandb, with its real library: a run of its own, which a resumed run goes on in and makes whole; it ends no run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from distsae.errors import WrongInput
from distsae.training import TrainConfig
from distsae.training.folder import RunFolder, start_tracking
from distsae.training.guards import start_accelerator
from tests.end_to_end.launching import ENVIRONMENT


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


def _logged(out: Path) -> list[int]:
    """The steps in all local files of wandb, in the order of the processes."""
    from distsae.training.folder.wandb_history import _steps

    return [step for file in sorted(out.glob("wandb/*run-*/*.wandb")) for step in _steps(file)]


_PROCESS = """
import json, os, sys
from pathlib import Path
from distsae.training import TrainConfig
from distsae.training.folder import RunFolder, start_tracking
from distsae.training.guards import start_accelerator

out, first, last, killed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "killed"
out.mkdir(exist_ok=True)
folder = RunFolder(out)
folder.metrics.keep_until(first - 1)
config = TrainConfig(store="s", out=str(out), wandb="offline")
accelerator = start_accelerator(config)
track = start_tracking(accelerator, config)
for step in range(first, last + 1):
    folder.metrics.append({"step": step, "loss": 1 / step})
    track({"step": step, "loss": 1 / step}, step)
if killed:
    os.kill(os.getpid(), 9)
accelerator.end_training()
"""


def _process(out: Path, first: int, last: int, ends: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROCESS, str(out), str(first), str(last), ends],
        timeout=300,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == (-9 if ends == "killed" else 0), done.stderr


def test_history_after_a_kill_is_made_whole(tmp_path):
    """The killed process leaves a gap (its buffer) and the last one would log the steps of another twice."""
    out = tmp_path / "run"
    _process(out, 1, 30, "killed")
    _process(out, 21, 60, "ends")  # from the checkpoint of step 20
    _process(out, 51, 70, "ends")  # from that of step 50, as if the one before had been killed after its buffer was out
    assert _logged(out) == list(range(1, 71))


@pytest.mark.parametrize("member", ["", "k-4"], ids=["a run", "a member of a sweep"])
@pytest.mark.parametrize("obstacle", ["an entry in the way", "no such mode"])
def test_auto_goes_on_where_wandb_cannot(obstacle, member, alone, tmp_path, monkeypatch, capsys):
    config = _config(tmp_path / "run", wandb="auto")
    Path(config.out).mkdir()
    if obstacle == "no such mode":
        monkeypatch.setenv("WANDB_MODE", "nonsense")
    else:
        monkeypatch.setenv("WANDB_MODE", "offline")
        (tmp_path / "run" / "wandb").write_text("")
    accelerator = start_accelerator(config)
    start_tracking(accelerator, config, member)({"loss": 1.0}, 1)
    accelerator.end_training()
    said = capsys.readouterr().err
    assert "warning: wandb cannot be used (" in said
    assert "training goes on without it" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_what_was_asked_for_is_refused_in_one_line(mode, alone, tmp_path):
    config = _config(tmp_path / "run", wandb=mode)
    Path(config.out).mkdir()
    (tmp_path / "run" / "wandb").write_text("")
    with pytest.raises(WrongInput, match=rf"^`wandb` \(={mode}\) must be able to write .* use off$"):
        start_tracking(start_accelerator(config), config)


@pytest.mark.heavy  # wandb waits for a minute and a half, whatever it is told
def test_online_without_a_server_is_one_line(alone, tmp_path, monkeypatch):
    """Nobody listens at the address; the library would try again for a long time."""
    config = _config(tmp_path / "run", wandb="online")
    Path(config.out).mkdir()
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "3")
    with pytest.raises(WrongInput, match=r"^`wandb` \(=online\) must be able to"):
        start_tracking(start_accelerator(config), config)


def test_a_failure_in_mid_run_is_a_warning(alone, tmp_path, capsys):
    config = _config(tmp_path / "run", wandb="offline")
    Path(config.out).mkdir()
    accelerator = start_accelerator(config)
    track = start_tracking(accelerator, config)
    accelerator.trackers[0].tracker.finish()  # its service is gone
    for step in (1, 2):
        track({"loss": 1.0}, step)
    accelerator.end_training()
    assert capsys.readouterr().err.count("warning: wandb has failed (") == 1
