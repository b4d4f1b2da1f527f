"""Which checkpoint a run goes on from, and what it refuses to go on from."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from distsae.checkpoint import newest
from distsae.errors import CannotContinue, WrongInput
from distsae.training import CheckpointConfig, SizeConfig, TrainConfig, train
from distsae.training.folder.lock import FolderLock
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


def test_a_run_folder_is_no_checkpoint(finished, tmp_path):
    with pytest.raises(Exception, match=r"manifest.json is missing"):
        train(dataclasses.replace(finished, out=str(tmp_path / "new"), resume=finished.out))


def test_going_back_sets_later_checkpoints_aside(finished, tmp_path):
    """Otherwise the next automatic resume would find the abandoned line."""
    run = dataclasses.replace(finished, out=str(shutil.copytree(finished.out, tmp_path / "run")))
    train(dataclasses.replace(run, steps=10, resume=_point(run, 8)))
    path, refused = newest(Path(run.out) / "checkpoints")
    assert path is not None
    assert (path.name, refused) == ("step-00000010", [])
    assert list(Path(run.out).glob("checkpoints/.abandoned-step-00000012-*"))
    assert max(_allocations(run.out)) == 10


def test_a_command_that_names_a_checkpoint_goes_on_when_it_is_started_again(finished, tmp_path, capsys):
    """A scheduler starts the same command after each preemption: it must not begin at that checkpoint each time."""
    point, out = _point(finished, 4), tmp_path / "fork"
    keep = CheckpointConfig(every=1, keep_last=9)
    config = dataclasses.replace(finished, out=str(out), steps=7, resume=point, checkpoint=keep)
    train(config)
    capsys.readouterr()
    train(dataclasses.replace(config, steps=9))
    said = capsys.readouterr().err
    assert f"{out}/checkpoints/step-00000007 has come of `resume` (={point}): going on from it" in said
    assert not list(out.glob("checkpoints/.abandoned-*"))
    other = dataclasses.replace(config, steps=9, resume=str(out / "checkpoints" / "step-00000005"))
    train(other)  # another checkpoint: back to it
    assert "set aside a checkpoint of a later step" in capsys.readouterr().err


def test_a_run_that_another_job_has_begun_meanwhile(finished, tmp_path, monkeypatch):
    """Between the look for checkpoints and the lock."""
    out = tmp_path / "run"
    occupy = RunFolder.occupy

    def late(folder):
        monkeypatch.setattr(RunFolder, "occupy", occupy)
        train(dataclasses.replace(finished, out=str(out)))
        occupy(folder)

    monkeypatch.setattr(RunFolder, "occupy", late)
    with pytest.raises(CannotContinue, match="was begun by another job meanwhile"):
        train(dataclasses.replace(finished, out=str(out)))
    assert len(_allocations(out)) == 6


def test_a_second_job_is_refused_before_it_looks_at_checkpoints(finished, monkeypatch):
    """The first one may be deleting those that the second would load."""
    monkeypatch.setattr(FolderLock.__init__, "__defaults__", (0.0,))
    first = RunFolder(finished.out)
    first.occupy()
    try:
        with pytest.raises(CannotContinue, match="must be trained into by one job at a time"):
            train(dataclasses.replace(finished, steps=finished.steps + 1))
    finally:
        first.close()
    train(finished)  # as it was: nothing has been left behind
