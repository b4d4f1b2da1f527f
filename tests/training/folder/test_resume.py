"""Which checkpoint a run resumes from, and which ones it refuses."""

from __future__ import annotations

import dataclasses
import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from distsae.checkpoint import Ranks, newest
from distsae.errors import CannotContinue, WrongInput
from distsae.store import Store
from distsae.training import CheckpointConfig, SizeConfig, TrainConfig, train
from distsae.training.folder.resume import find_resume_point
from distsae.training.folder.run_folder import RunFolder


@pytest.fixture(scope="module")
def finished(tiny_store, tmp_path_factory):
    config = TrainConfig(
        store=str(tiny_store),
        out=str(tmp_path_factory.mktemp("runs") / "run"),
        hook="blocks.1.resid_post",
        steps=12,
        batch_tokens=128,
        sae=SizeConfig(d_sae=64, k=4),
        finetune_fc_from=0.5,
        checkpoint=CheckpointConfig(every=4, keep_last=9),
        wandb="off",
        log_every=2,
    )
    train(config)
    return config


def _point(config, step):
    return str(Path(config.out) / "checkpoints" / f"step-{step:08d}")


def _allocations(out):
    lines = [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["allocation"] for line in lines}


def test_more_steps_do_not_leave_a_phase_that_has_begun(finished, tmp_path):
    longer = dataclasses.replace(finished, out=str(tmp_path / "longer"), steps=24, resume=_point(finished, 8))
    train(longer)
    assert set(_allocations(longer.out).values()) == {"feature_choice"}
    early = dataclasses.replace(finished, out=str(tmp_path / "early"), steps=24, resume=_point(finished, 4))
    train(early)
    assert [step for step, rule in _allocations(early.out).items() if rule == "mutual_choice"] == [6, 8, 10, 12]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 3}, r"`steps` \(=3\) must be at least the 12"),
        ({"seed": 5}, r"`seed` \(=5\) must stay what the run in .* began with; got 0"),
        ({"hook": "blocks.0.resid_post"}, r"`hook` \(=blocks.0.resid_post\) must stay"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(finished, tmp_path, changes, message):
    with pytest.raises(WrongInput, match=message):
        train(dataclasses.replace(finished, out=str(tmp_path / "new"), resume=_point(finished, 12), **changes))
    assert not (tmp_path / "new" / "sae").exists()


def test_a_run_folder_is_not_a_checkpoint(finished, tmp_path):
    with pytest.raises(Exception, match=r"manifest.json is missing"):
        train(dataclasses.replace(finished, out=str(tmp_path / "new"), resume=finished.out))


def test_going_back_sets_later_checkpoints_aside(finished, tmp_path):
    """Otherwise the next automatic resume would continue the abandoned run."""
    run = dataclasses.replace(finished, out=str(shutil.copytree(finished.out, tmp_path / "run")))
    train(dataclasses.replace(run, steps=10, resume=_point(run, 8)))
    path, refused = newest(Path(run.out) / "checkpoints")
    assert path is not None
    assert (path.name, refused) == ("step-00000010", [])
    assert list(Path(run.out).glob("checkpoints/.abandoned-step-00000012-*"))
    assert max(_allocations(run.out)) == 10


def test_a_command_that_names_a_checkpoint_continues_when_it_is_started_again(finished, tmp_path, capsys):
    """A scheduler starts the same command after each preemption; it must not go back to that checkpoint each time."""
    point, out = _point(finished, 4), tmp_path / "fork"
    keep = CheckpointConfig(every=1, keep_last=9)
    config = dataclasses.replace(finished, out=str(out), steps=7, resume=point, checkpoint=keep)
    train(config)
    capsys.readouterr()
    train(dataclasses.replace(config, steps=9))
    printed = capsys.readouterr().err
    assert f"{out}/checkpoints/step-00000007 was saved by a run from `resume` (={point}): resuming from it" in printed
    assert not list(out.glob("checkpoints/.abandoned-*"))
    other = dataclasses.replace(config, steps=9, resume=str(out / "checkpoints" / "step-00000005"))
    train(other)  # goes back, because it names another checkpoint
    assert "set aside a checkpoint of a later step" in capsys.readouterr().err


def test_a_run_that_another_job_has_begun_meanwhile(finished, tmp_path, monkeypatch):
    """The other job runs between this one's search for checkpoints and its lock."""
    out = tmp_path / "run"
    lock = RunFolder.lock

    def lock_late(folder):
        monkeypatch.setattr(RunFolder, "lock", lock)
        train(dataclasses.replace(finished, out=str(out)))
        lock(folder)

    monkeypatch.setattr(RunFolder, "lock", lock_late)
    with pytest.raises(CannotContinue, match="was begun by another job meanwhile"):
        train(dataclasses.replace(finished, out=str(out)))
    assert len(_allocations(out)) == 6


def test_a_second_job_is_refused_before_it_reads_checkpoints(finished, tmp_path, capsys):
    """The first job might delete the checkpoint that the second one loads."""
    run = dataclasses.replace(finished, out=str(shutil.copytree(finished.out, tmp_path / "run")))
    (Path(_point(run, 12)) / "manifest.json").unlink()  # a job that reads this checkpoint reports it
    store, ranks = Store.open(run.store), Ranks(None)
    with closing(RunFolder(run.out)) as first:
        first.lock()
        with pytest.raises(CannotContinue, match="must be used by one job at a time"):
            find_resume_point(run, RunFolder(run.out, patience=0.0), store, ranks)
        assert "not resumed from" not in capsys.readouterr().err
    with closing(RunFolder(run.out, patience=0.0)) as second:
        point = find_resume_point(run, second, store, ranks)
        assert point is not None
        assert (point.step, point.finished) == (8, False)
        assert "not resumed from" in capsys.readouterr().err
        with pytest.raises(CannotContinue, match="must be used by one job at a time"):
            RunFolder(run.out, patience=0.0).lock()
