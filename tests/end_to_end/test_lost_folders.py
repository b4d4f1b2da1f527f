"""The store or the run folder goes away in mid-run: what can be saved is, and the run soon ends with the reason."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from distsae.cli.main import main
from distsae.exit_codes import DONE, FAILED, STOPPED
from distsae.training.run import Run
from tests.end_to_end.launching import train_words

STEPS = 300


def _arguments(store: Path, out: Path) -> list[str]:
    values = {
        "store": store,
        "out": out,
        "hook": "blocks.1.resid_post",
        "steps": STEPS,
        "batch_tokens": 256,
        "sae.d_sae": 64,
        "sae.k": 4,
        "checkpoint.every": 50,
        "log_every": 1,
        "wandb": "off",
    }
    return train_words(values)


@pytest.fixture
def after_step(monkeypatch) -> Callable[[int, Callable[[], object]], None]:
    """Has something happen when a step is done, once."""

    def install(number: int, happens: Callable[[], object]) -> None:
        step, happened = Run.step, []

        def observed(run, batch):
            shown = step(run, batch)
            if run.done >= number and not happened:
                happened.append(run.done)
                happens()
            return shown

        monkeypatch.setattr(Run, "step", observed)

    return install


def _steps(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def _newest(out: Path) -> int:
    return int((out / "checkpoints" / "latest").read_text().strip().removeprefix("step-"))


def test_the_store_goes_away_and_comes_back(tiny_store, tmp_path, after_step, capsys):
    store, out = tmp_path / "store", tmp_path / "run"
    shutil.copytree(tiny_store, store)
    after_step(5, lambda: store.rename(tmp_path / "elsewhere"))
    assert main(_arguments(store, out)) == FAILED
    error = capsys.readouterr().err.splitlines()[-1]
    done = _newest(out)
    assert 5 <= done < STEPS
    assert done % 50  # not one that was due
    assert error.startswith(f"distsae: error: the rows of step {done + 1} could not be read: {store}/")
    assert error.endswith(f"; a checkpoint of step {done} is saved, and the same command continues")
    (tmp_path / "elsewhere").rename(store)
    assert main(_arguments(store, out)) == DONE
    assert f"resumed from {out}/checkpoints/step-{done:08d}" in capsys.readouterr().err
    assert _steps(out) == list(range(1, STEPS + 1))


def test_a_run_folder_that_can_no_longer_be_written(tiny_store, tmp_path, after_step, capsys):
    """A file is in its place, which not even root can write into."""
    out = tmp_path / "run"

    def lose():
        out.rename(tmp_path / "elsewhere")
        out.write_text("")

    after_step(5, lose)
    assert main(_arguments(tiny_store, out)) == FAILED
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("distsae: error: the checkpoint of step 6 could not be completed ([Errno ")
    assert lines[-1].endswith("make the folder writable again")
    assert max(_steps(tmp_path / "elsewhere")) == 5
    out.unlink()
    (tmp_path / "elsewhere").rename(out)
    assert main([*_arguments(tiny_store, out), "--steps", "8"]) == DONE


def test_checkpoints_alone_can_no_longer_be_written(tiny_store, tmp_path, after_step, capsys):
    out = tmp_path / "run"

    def lose():
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
        (out / "checkpoints").write_text("")

    after_step(30, lose)
    assert main(_arguments(tiny_store, out)) == FAILED
    error = capsys.readouterr().err.splitlines()[-1]
    assert "could not be completed ([Errno " in error
    assert 50 <= max(_steps(out)) < 100  # found when the next checkpoint was due


def test_a_run_folder_that_was_removed_is_made_again(tiny_store, tmp_path, after_step):
    out = tmp_path / "run"
    after_step(5, lambda: shutil.rmtree(out))
    assert main([*_arguments(tiny_store, out), "--steps", "60"]) == DONE
    assert (out / "sae" / "config.json").is_file()
    assert _newest(out) == 60


def test_a_closed_terminal_stops_after_a_checkpoint(tiny_store, tmp_path, after_step, capsys):
    out = tmp_path / "run"
    after_step(5, lambda: os.kill(os.getpid(), signal.SIGHUP))
    assert main(_arguments(tiny_store, out)) == STOPPED
    assert "SIGHUP: stopping after this step, with a checkpoint\n" in capsys.readouterr().err
    assert _newest(out) == 6
