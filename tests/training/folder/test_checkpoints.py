"""A checkpoint that fails is a warning while there will be another, and an error when somebody counts on it."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from distsae.checkpoint import CheckpointFailed, Ranks, Saver
from distsae.training import CheckpointConfig
from distsae.training.folder.checkpoints import RunCheckpoints
from distsae.training.folder.run_folder import RunFolder


class _Units:
    """What a store that keeps all its units, or a bounded one, hears."""

    def __init__(self, windows: tuple[int, ...] = ()) -> None:
        self.windows, self.heard = windows, []

    def due(self, done: int) -> bool:
        return done in self.windows

    def saved(self, done: int) -> None:
        self.heard.append(done)


@contextmanager
def _full_disk() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def make(tmp_path):
    savers = []

    def make(units: _Units, tidies: bool = True, **keep: object) -> tuple[RunCheckpoints, list[str]]:
        savers.append(Saver(Ranks(None), asynchronous=True))
        said: list[str] = []
        config = CheckpointConfig(**keep)
        folder = RunFolder(tmp_path / "run")
        return RunCheckpoints(config, folder, units, savers[-1], said.append, tidies=tidies), said

    yield make
    for saver in savers:
        saver.close()


def _state() -> dict[str, torch.Tensor]:
    return {"w": torch.zeros(1 << 17)}


def _steps(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "run" / "checkpoints").glob("step-*"))


def test_old_ones_go_when_a_new_one_is_there(make, tmp_path):
    units = _Units()
    checkpoints, said = make(units, keep_last=2, keep_every=2)
    for done in range(1, 6):
        assert not checkpoints.attempted(done)
        checkpoints.save(done, _state(), {})
        assert checkpoints.attempted(done)
    checkpoints.require()
    assert _steps(tmp_path) == ["step-00000002", "step-00000004", "step-00000005"]
    assert units.heard == [1, 2, 3, 4, 5]
    assert said == []


def test_only_one_process_tidies(make, tmp_path):
    units = _Units()
    checkpoints, _ = make(units, tidies=False, keep_last=1)
    for done in (1, 2, 3):
        checkpoints.save(done, _state(), {})
    checkpoints.wait_and_free()
    assert len(_steps(tmp_path)) == 3
    assert units.heard == []


def test_a_full_disk_leaves_the_run_and_the_one_before(make, tmp_path):
    units = _Units()
    checkpoints, said = make(units, keep_last=1)
    checkpoints.save(1, _state(), {})
    checkpoints.wait_and_free()
    with _full_disk():
        checkpoints.save(2, _state(), {})
        checkpoints.wait_and_free()
    (line,) = said
    assert line.startswith("warning: the checkpoint of step 2 could not be completed")
    assert "it needs 524,288 bytes in" in line
    assert line.endswith("training goes on, and tries again at its next checkpoint")
    assert _steps(tmp_path) == ["step-00000001"]
    assert units.heard == [1]
    with pytest.raises(CheckpointFailed, match="step 2 could not be completed"):
        checkpoints.require()
    assert checkpoints.attempted(2)
    assert not checkpoints.hold(2)
    checkpoints.save(3, _state(), {})
    checkpoints.require()
    assert checkpoints.hold(3)
    assert _steps(tmp_path) == ["step-00000003"]


def test_producers_that_wait_for_it_need_the_checkpoint(make):
    units = _Units(windows=(2,))
    checkpoints, _ = make(units)
    with _full_disk():
        checkpoints.save(1, _state(), {})
        with pytest.raises(CheckpointFailed, match="step 2 could not be completed"):
            checkpoints.save(2, _state(), {})
    checkpoints.save(2, _state(), {})
    assert units.heard == [2]


def test_what_was_resumed_from_is_saved(make):
    checkpoints, _ = make(_Units())
    checkpoints.resumed(7)
    assert checkpoints.attempted(7)
    assert checkpoints.hold(7)
    assert not checkpoints.attempted(8)


def test_a_store_that_cannot_be_told_is_a_warning(make, tmp_path):
    class Gone(_Units):
        def saved(self, done: int) -> None:
            raise OSError("stale file handle")

    checkpoints, said = make(Gone())
    checkpoints.save(1, _state(), {})
    checkpoints.require()
    assert said == [
        "warning: the store was not told what has been read, it hears with the next checkpoint: stale file handle"
    ]
    assert checkpoints.hold(1)
