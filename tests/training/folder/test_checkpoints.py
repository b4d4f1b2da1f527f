"""A save that fails is a warning while another one follows, and an error when the checkpoint is required."""

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
    """Records the checkpoints that units are released after; a bounded store has windows that end after given steps."""

    def __init__(self, windows: tuple[int, ...] = ()) -> None:
        self.windows = windows
        self.saved: list[int] = []

    def checkpoint_due(self, done: int) -> bool:
        return done in self.windows

    def checkpoint_saved(self, done: int) -> None:
        self.saved.append(done)


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

    def make(units: _Units, is_main: bool = True, **keep: object) -> tuple[RunCheckpoints, list[str]]:
        """Returns checkpoints, and the list that their lines for the user go to."""
        savers.append(Saver(Ranks(None), asynchronous=True))
        lines: list[str] = []
        config = CheckpointConfig(**keep)
        folder = RunFolder(tmp_path / "run")
        return RunCheckpoints(config, folder, units, savers[-1], lines.append, is_main=is_main), lines

    yield make
    for saver in savers:
        saver.close()


def _state() -> dict[str, torch.Tensor]:
    return {"w": torch.zeros(1 << 17)}


def _steps(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "run" / "checkpoints").glob("step-*"))


def test_old_checkpoints_are_deleted_after_a_save(make, tmp_path):
    units = _Units()
    checkpoints, lines = make(units, keep_last=2, keep_every=2)
    for done in range(1, 6):
        assert not checkpoints.attempted(done)
        checkpoints.save(done, _state(), {})
        assert checkpoints.attempted(done)
    checkpoints.require_saved()
    assert _steps(tmp_path) == ["step-00000002", "step-00000004", "step-00000005"]
    assert units.saved == [1, 2, 3, 4, 5]
    assert lines == []


def test_only_the_main_process_deletes_and_releases(make, tmp_path):
    units = _Units()
    checkpoints, _ = make(units, is_main=False, keep_last=1)
    for done in (1, 2, 3):
        checkpoints.save(done, _state(), {})
    checkpoints.wait_and_free()
    assert len(_steps(tmp_path)) == 3
    assert units.saved == []


def test_a_full_disk_ends_neither_the_run_nor_the_checkpoint_before(make, tmp_path):
    units = _Units()
    checkpoints, lines = make(units, keep_last=1)
    checkpoints.save(1, _state(), {})
    checkpoints.wait_and_free()
    with _full_disk():
        checkpoints.save(2, _state(), {})
        checkpoints.wait_and_free()
    (line,) = lines
    assert line.startswith("warning: the checkpoint of step 2 could not be completed")
    assert "it needs 524,288 bytes in" in line
    assert line.endswith("training goes on, and tries again at its next checkpoint")
    assert _steps(tmp_path) == ["step-00000001"]
    assert units.saved == [1]
    with pytest.raises(CheckpointFailed, match="step 2 could not be completed"):
        checkpoints.require_saved()
    assert checkpoints.attempted(2)
    assert not checkpoints.on_disk(2)
    checkpoints.save(3, _state(), {})
    checkpoints.require_saved()
    assert checkpoints.on_disk(3)
    assert _steps(tmp_path) == ["step-00000003"]


def test_a_checkpoint_that_producers_wait_for_is_required(make):
    units = _Units(windows=(2,))
    checkpoints, _ = make(units)
    with _full_disk():
        checkpoints.save(1, _state(), {})
        with pytest.raises(CheckpointFailed, match="step 2 could not be completed"):
            checkpoints.save(2, _state(), {})
    checkpoints.save(2, _state(), {})
    assert units.saved == [2]


def test_the_checkpoint_that_was_resumed_from_is_on_disk(make):
    checkpoints, _ = make(_Units())
    checkpoints.resumed(7)
    assert checkpoints.attempted(7)
    assert checkpoints.on_disk(7)
    assert not checkpoints.attempted(8)


def test_units_that_cannot_be_released_are_a_warning(make, tmp_path):
    class Unreachable(_Units):
        def checkpoint_saved(self, done: int) -> None:
            raise OSError("stale file handle")

    checkpoints, lines = make(Unreachable())
    checkpoints.save(1, _state(), {})
    checkpoints.require_saved()
    assert lines == [
        "warning: units of the store could not be released, the next checkpoint tries again: stale file handle"
    ]
    assert checkpoints.on_disk(1)
