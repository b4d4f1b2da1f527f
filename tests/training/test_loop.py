"""The training loop: each member of a sweep is trained as it would be alone, whatever happens to the others."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path

import pytest

from distsae.batches import BatchReader
from distsae.checkpoint import Ranks
from distsae.cli.main import main
from distsae.errors import Diverged
from distsae.exit_codes import DIVERGED
from distsae.training import OptimizerConfig, SweepConfig, train
from distsae.training.folder.checkpoints import RunCheckpoints
from distsae.training.folder.unit_release import UnitRelease
from tests.training.sample_runs import STEPS, STOP, config_of, metrics, state

SWEEP = SweepConfig(k=(4, 6), allocation=("token_choice", "feature_choice"), seed=(3,))
NAMES = [f"k-{k}_allocation-{rule}_seed-3" for k in (4, 6) for rule in ("token_choice", "feature_choice")]
LAST = f"checkpoints/step-{STEPS:08d}"


@pytest.fixture(scope="module")
def swept(tiny_store, tmp_path_factory):
    """The config of a finished sweep, and the steps whose batches were read, in the order of reading."""
    config = config_of(tiny_store, tmp_path_factory.mktemp("sweeps") / "swept", seed=1, sweep=SWEEP)
    read, batch = [], BatchReader.batch

    def recorded(reader, step):
        read.append(step)
        return batch(reader, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchReader, "batch", recorded)
        train(config)
    return config, read


def _assert_equal(first: Path, second: Path) -> None:
    assert metrics(first) == metrics(second)
    for folder in (LAST, "sae"):
        assert state(first / folder)
        assert state(first / folder) == state(second / folder)
    assert (first / "frozen_rule.json").read_text() == (second / "frozen_rule.json").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_member_equals_a_run_alone_with_its_config(swept, name, tmp_path):
    member = Path(swept[0].out) / name
    assert main(["train", "--config", str(member / "config.yaml"), "--out", str(tmp_path / "alone")]) == 0
    _assert_equal(member, tmp_path / "alone")
    effort = [
        [{key: line[key] for key in ("second_passes", "selection_collectives")} for line in _lines(out)]
        for out in (member, tmp_path / "alone")
    ]
    assert effort[0] == effort[1]


def _lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_every_batch_is_read_once(swept):
    """For its thresholds, Feature Choice also reads the batches after the last step."""
    config, read = swept
    assert read[:STEPS] == list(range(STEPS))
    assert min(read[STEPS:]) == STEPS
    assert sorted(path.name for path in Path(config.out).iterdir()) == sorted(NAMES)
    assert len({json.dumps(metrics(Path(config.out) / name)) for name in NAMES}) == len(NAMES)


def test_an_interrupted_sweep_resumes(swept, tmp_path, monkeypatch, capsys):
    """One member resumes from step 15, one is finished, and two start again."""
    straight, out = Path(swept[0].out), tmp_path / "sweep"
    config = dataclasses.replace(swept[0], out=str(out))
    saves, save = [], RunCheckpoints.save

    def interrupted(checkpoints, *arguments):
        saves.append(checkpoints)
        if len(saves) == 3:
            raise KeyboardInterrupt
        save(checkpoints, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoints, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    steps = [len(list((out / name / "checkpoints").glob("step-*"))) for name in NAMES]
    assert steps == [1, 1, 0, 0]
    shutil.rmtree(out / NAMES[1])
    shutil.copytree(straight / NAMES[1], out / NAMES[1])  # finished
    capsys.readouterr()
    train(config)
    printed = capsys.readouterr().err
    assert f"{NAMES[0]}: resumed from {out / NAMES[0]}/checkpoints/step-{STOP:08d}, step {STOP}" in printed
    assert f"{NAMES[1]}: resumed from" in printed
    assert printed.count("resumed from") == 2
    for name in NAMES:
        _assert_equal(straight / name, out / name)


def test_members_that_are_ahead_wait_for_one_that_lost_its_checkpoints(swept, tmp_path):
    straight, out = Path(swept[0].out), tmp_path / "sweep"
    shutil.copytree(straight, out)
    shutil.rmtree(out / NAMES[3] / LAST)
    shutil.rmtree(out / NAMES[3] / "sae")
    before = [_lines(out / name) for name in NAMES[:3]]
    train(dataclasses.replace(swept[0], out=str(out)))
    assert [_lines(out / name) for name in NAMES[:3]] == before
    for name in NAMES:
        _assert_equal(straight / name, out / name)


def test_a_member_that_diverges_stops_alone(tiny_store, tmp_path, capsys):
    base = config_of(tiny_store, tmp_path / "config", optimizer=OptimizerConfig(warmup_share=0.0))
    arguments = ["train", "--store", str(tiny_store), "--hook", "blocks.1.resid_post", "--batch_tokens", "256"]
    arguments += ["--steps", "6", "--sae.d_sae", "64", "--sae.k", "4", "--wandb", "off", "--checkpoint.every", "1"]
    arguments += ["--optimizer.warmup_share", str(base.optimizer.warmup_share), "--log_every", "1"]
    assert main([*arguments, "--out", str(tmp_path / "sweep"), "--sweep.lr", "[1e38,2e-3]"]) == DIVERGED
    printed = capsys.readouterr().err
    assert "lr-1e+38: stopped: step" in printed
    assert "distsae: error: 1 of 2 members of the sweep stopped: lr-1e+38: step" in printed
    assert main([*arguments, "--out", str(tmp_path / "alone"), "--optimizer.lr", "2e-3"]) == 0
    failed, finished = tmp_path / "sweep" / "lr-1e+38", tmp_path / "sweep" / "lr-0.002"
    assert state(finished / "sae") == state(tmp_path / "alone" / "sae")
    assert metrics(finished) == metrics(tmp_path / "alone")
    assert not list((failed / "checkpoints").glob("step-*"))  # its weights were never finite
    assert list((failed / "diagnosis").iterdir())
    assert not (failed / "sae").exists()


def test_a_sweep_ends_when_all_members_have_diverged(tiny_store, tmp_path, capsys):
    config = config_of(tiny_store, tmp_path / "sweep", optimizer=OptimizerConfig(warmup_share=0.0))
    with pytest.raises(Diverged, match=r"2 of 2 members .*: lr-1e\+37: step .*; lr-1e\+38: step"):
        train(dataclasses.replace(config, sweep=SweepConfig(lr=(1e37, 1e38))))


def test_report_and_evaluation_of_members(swept, tiny_store, tiny_model_dir, tiny_corpus, tmp_path, capsys):
    out = tmp_path / "sweep"
    shutil.copytree(swept[0].out, out)
    assert main(["evaluate", str(out / NAMES[0]), "--store", str(tiny_store)]) == 0
    assert (out / NAMES[0] / "evaluation.json").is_file()
    assert main(["report", *map(str, sorted(out.iterdir()))]) == 0
    pages = list(tmp_path.rglob("index.html"))
    assert len(pages) == 1
    assert all(name in pages[0].read_text(encoding="utf-8") for name in NAMES)


def test_every_member_has_its_own_wandb_run(tiny_store, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    out = tmp_path / "sweep"
    train(config_of(tiny_store, out, steps=4, wandb="auto", sweep=SweepConfig(seed=(0, 1))))
    losses = {name: repr(metrics(out / name)[-1]["loss"]).encode() for name in ("seed-0", "seed-1")}
    for name, other in (("seed-0", "seed-1"), ("seed-1", "seed-0")):
        (log,) = (out / name).glob("wandb/offline-run-*/*.wandb")
        for _ in range(1200):  # wandb's own process may still be writing after the end of a run
            if losses[name] in log.read_bytes():
                break
            time.sleep(0.1)
        assert losses[name] in log.read_bytes()
        assert losses[other] not in log.read_bytes()
        assert name.encode() in log.read_bytes()


def test_a_resumed_run_continues_its_wandb_run(tiny_store, tmp_path):
    out = tmp_path / "run"
    for steps in (4, 8):
        train(config_of(tiny_store, out, steps=steps, wandb="offline"))
    name = (out / "wandb_id").read_text().strip()
    logs = [log.name for log in (out / "wandb").glob("offline-run-*/*.wandb")]
    assert logs == [f"run-{name}.wandb"] * 2


def test_all_ranks_wait_until_the_first_one_has_registered_the_run_as_reader(tiny_store, tmp_path, monkeypatch):
    """Without a barrier, another rank might read units of a bounded store that still count as released."""
    events = []

    def record(owner, name):
        method = getattr(owner, name)

        def recorded(*arguments, **named):
            events.append(name)
            return method(*arguments, **named)

        monkeypatch.setattr(owner, name, recorded)

    record(UnitRelease, "start_reading")
    record(Ranks, "exchange")
    record(BatchReader, "batch")
    train(config_of(tiny_store, tmp_path / "run", steps=2))
    first = events.index("start_reading")
    assert events[first : first + 3] == ["start_reading", "exchange", "batch"]
