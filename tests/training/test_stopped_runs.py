"""A run that is stopped by a signal at any time and started again ends as a run without a stop."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from distsae.batches import BatchReader
from distsae.checkpoint import CheckpointFailed, newest, saver
from distsae.checkpoint.saving import save_snapshot
from distsae.errors import Diverged
from distsae.training import CheckpointConfig, OptimizerConfig, SweepConfig, TrainConfig, run, train
from distsae.training.folder.unit_release import UnitRelease
from distsae.training.guards import StopVote
from tests.training.sample_runs import STEPS, config_of, metrics, state

LAST = f"checkpoints/step-{STEPS:08d}"


@pytest.fixture(scope="module")
def straight(tiny_store, tmp_path_factory) -> TrainConfig:
    config = config_of(tiny_store, tmp_path_factory.mktemp("straight") / "run", finetune_fc_from=0.4)
    train(config)
    return config


def _assert_same(straight: Path, out: Path) -> None:
    for folder in (LAST, "sae"):
        assert state(out / folder) == state(straight / folder)
    assert metrics(out) == metrics(straight)


def _send_during(monkeypatch: pytest.MonkeyPatch, number: signal.Signals, steps: tuple[int, ...]) -> None:
    """Sends the signal during each of these steps, once per step, when the vote of the step is open already."""
    batch, open_vote, left = BatchReader.batch, StopVote.open_vote, [*steps]
    reading = [-1]

    def remembered(reader, step):
        reading[0] = step
        return batch(reader, step)

    def signalled(vote, *trouble):
        open_vote(vote, *trouble)
        if reading[0] in left:
            left.remove(reading[0])
            os.kill(os.getpid(), number)

    monkeypatch.setattr(BatchReader, "batch", remembered)
    monkeypatch.setattr(StopVote, "open_vote", signalled)


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_stopped_twice(straight, number, asynchronous, tiny_store, tmp_path, monkeypatch, capsys):
    """During Mutual Choice, and after the last step."""
    out = tmp_path / "run"
    keep = CheckpointConfig(every=1000, asynchronous=asynchronous)
    config = config_of(tiny_store, out, finetune_fc_from=0.4, checkpoint=keep)
    _send_during(monkeypatch, number, (4, STEPS - 2))
    for done in (6, STEPS):  # a signal during a step stops the run after the next one
        with pytest.raises(KeyboardInterrupt if number is signal.SIGINT else SystemExit) as ended:
            train(config)
        assert number is signal.SIGINT or getattr(ended.value, "code", None) == 75
        assert newest(out / "checkpoints")[0].name == f"step-{done:08d}"
        assert f"stopped by {number.name} after {done} of {STEPS} steps; the same command continues" in (
            capsys.readouterr().err
        )
        assert not (out / "sae").exists()
    train(config)
    _assert_same(Path(straight.out), out)


def test_a_signal_while_the_sae_is_made(straight, tiny_store, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    config = config_of(tiny_store, out, finetune_fc_from=0.4)
    with monkeypatch.context() as patch:
        patch.setattr(run, "frozen_sae", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit) as ended:
            train(config)
    assert ended.value.code == 75
    assert "stopped by SIGTERM while making the SAE; the same command continues" in capsys.readouterr().err
    assert not (out / "sae").exists()
    train(config)
    _assert_same(Path(straight.out), out)


def test_all_members_of_a_sweep_are_saved(straight, tiny_store, tmp_path, monkeypatch):
    """One of them has lost its checkpoints, so it is at an earlier step than the other."""
    out = tmp_path / "sweep"
    config = config_of(
        tiny_store, out, finetune_fc_from=0.4, checkpoint=CheckpointConfig(every=1000), sweep=SweepConfig(seed=(0, 1))
    )
    with monkeypatch.context() as patch:
        _send_during(patch, signal.SIGTERM, (9,))
        with pytest.raises(SystemExit):
            train(config)
    shutil.rmtree(out / "seed-1" / "checkpoints")
    with monkeypatch.context() as patch:
        _send_during(patch, signal.SIGTERM, (3,))
        with pytest.raises(SystemExit):
            train(config)
    steps = {name: newest(out / name / "checkpoints")[0].name for name in ("seed-0", "seed-1")}
    assert steps == {"seed-0": "step-00000011", "seed-1": "step-00000005"}
    train(config)
    _assert_same(Path(straight.out), out / "seed-0")


def _fail_for(monkeypatch: pytest.MonkeyPatch, member: str, steps: tuple[int, ...]) -> None:
    """Makes the checkpoints of a member after these steps fail."""

    def failing(folder, step, *rest):
        if member in str(folder) and step in steps:
            raise CheckpointFailed(f"no room for step {step}")
        return save_snapshot(folder, step, *rest)

    monkeypatch.setattr(saver, "save_snapshot", failing)


def test_a_member_that_cannot_be_saved_does_not_affect_the_others(tiny_store, tmp_path, monkeypatch, capsys):
    out = tmp_path / "sweep"
    keep = CheckpointConfig(every=1000)
    config = config_of(tiny_store, out, checkpoint=keep, sweep=SweepConfig(seed=(0, 1)))
    with monkeypatch.context() as patch:
        _send_during(patch, signal.SIGTERM, (9,))
        _fail_for(patch, "seed-0", (11,))
        with pytest.raises(CheckpointFailed, match="no room for step 11"):
            train(config)
    assert newest(out / "seed-0" / "checkpoints")[0] is None
    assert newest(out / "seed-1" / "checkpoints")[0].name == "step-00000011"
    with monkeypatch.context() as patch:
        _fail_for(patch, "seed-0", (STEPS,))
        with pytest.raises(CheckpointFailed, match=r"1 of 2 members of the sweep stopped: seed-0: no room"):
            train(config)
    assert (out / "seed-0" / "sae" / "sae.safetensors").is_file()
    assert (out / "seed-1" / "sae" / "sae.safetensors").is_file()
    assert "warning: no room for step" in capsys.readouterr().err


def test_a_signal_in_the_step_in_which_the_last_member_diverges(tiny_store, tmp_path, monkeypatch):
    rates = SweepConfig(lr=(1e38, 2e38))
    config = config_of(tiny_store, tmp_path / "sweep", optimizer=OptimizerConfig(warmup_share=0.0), sweep=rates)
    _send_during(monkeypatch, signal.SIGTERM, (0,))
    with pytest.raises(Diverged, match="2 of 2 members"):
        train(config)


def test_rows_are_released_only_when_the_last_checkpoint_is_saved(tiny_store, tmp_path, monkeypatch):
    """Otherwise a run that resumes from an earlier checkpoint could not read them again."""
    finished = []
    monkeypatch.setattr(UnitRelease, "run_finished", lambda units: finished.append(units))
    config = config_of(tiny_store, tmp_path / "run")
    with monkeypatch.context() as patch:
        _fail_for(patch, "run", (STEPS,))
        with pytest.raises(CheckpointFailed):
            train(config)
    assert finished == []
    train(config)
    assert len(finished) == 1
