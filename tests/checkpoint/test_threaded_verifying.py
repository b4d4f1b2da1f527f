"""Several threads read every byte, progress is reported while they read, and each damaged file is named."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest

from distsae.checked_files import open_regular
from distsae.checkpoint import file_digest, save, threaded_verifying, verify
from distsae.checkpoint.file_digest import compare, digest_of
from distsae.checkpoint.manifest import Manifest, read_manifest, write_manifest
from distsae.checkpoint.threaded_verifying import bytes_to_read, verify_in_threads
from distsae.durable import write_new
from tests.checkpoint.samples import cut, whole

from . import bomb

_REPLICATED, _ROWS = "replicated.safetensors", "feature-00000-of-00001.safetensors"


def _saved(folder: Path, *steps: int) -> list[Path]:
    return [save(folder, step, cut(whole(step), 1, 0), {}) for step in steps]


def _checkpoint_of(folder: Path, step: int, sizes: dict[str, int]) -> Path:
    """Writes a checkpoint whose files have these sizes and hold no tensors."""
    path = folder / f"step-{step:08d}"
    path.mkdir(parents=True)
    for name, size in sizes.items():
        write_new(path / name, bytes([size % 251]) * size)
    write_manifest(path, Manifest(step, {name: digest_of(path / name) for name in sizes}, {}, {}))
    return path


def test_sound_and_damaged_checkpoints_get_their_verdicts(tmp_path: Path) -> None:
    paths = _saved(tmp_path, 1, 2, 3, 4, 5)
    flipped = bytearray((paths[1] / _ROWS).read_bytes())
    flipped[-1] ^= 0x80
    (paths[1] / _ROWS).write_bytes(flipped)
    (paths[2] / _ROWS).write_bytes(flipped[:-1])
    (paths[2] / _REPLICATED).unlink()
    (paths[3] / "manifest.json").unlink()
    counted: list[int] = []
    expected = sum(map(bytes_to_read, paths))
    verdicts = verify_in_threads(paths, counted.append)
    assert [verdict.path for verdict in verdicts] == paths
    assert [verdict.sound for verdict in verdicts] == [True, False, False, False, True]
    assert verdicts[1].faults == (f"{paths[1] / _ROWS} is damaged: its SHA-256 is not the one in its manifest",)
    assert len(verdicts[2].faults) == 2
    for verdict in verdicts:
        assert list(verdict.faults) == verify(verdict.path)
        assert not verdict.gone
    files = [file for path in paths[:3] + paths[4:] for file in read_manifest(path).files.values()]
    assert sum(counted) == expected == sum(file.bytes for file in files)
    assert (verdicts[0].files, verdicts[0].bytes) == (2, bytes_to_read(paths[0]))
    assert (verdicts[3].files, verdicts[3].bytes, bytes_to_read(paths[3])) == (0, 0, 0)


def test_bytes_are_counted_as_they_are_read(tmp_path: Path) -> None:
    path = _checkpoint_of(tmp_path, 1, {"large": 5 << 20, "small": 10, "empty": 0})
    counted: list[int] = []
    assert verify_in_threads([path], counted.append)[0].sound
    assert sum(counted) == (5 << 20) + 10
    assert max(counted) <= 1 << 20
    assert min(counted) > 0


def test_progress_is_reported_in_the_calling_thread(tmp_path: Path) -> None:
    path = _checkpoint_of(tmp_path, 1, {f"file-{index}": 1000 for index in range(20)})
    threads: set[int] = set()
    verify_in_threads([path], lambda size: threads.add(threading.get_ident()))
    assert threads == {threading.get_ident()}


def test_several_threads_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files are read at the same time: each reader waits until the other has begun."""
    path = _checkpoint_of(tmp_path, 1, {"first": 10, "second": 10})
    meeting = threading.Barrier(2, timeout=60)

    def compare_when_both_have_begun(*arguments):
        meeting.wait()
        return compare(*arguments)

    monkeypatch.setattr(threaded_verifying, "compare", compare_when_both_have_begun)
    assert verify_in_threads([path])[0].sound


def test_an_interrupt_ends_the_threads_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _checkpoint_of(tmp_path, 1, {f"file-{index}": 10 for index in range(100)})
    begun: list[Path] = []
    finished: list[Path] = []

    def compare_for_long(file, expected, on_read):
        begun.append(file)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            on_read(1)
        finished.append(file)

    def interrupt(size: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threaded_verifying, "compare", compare_for_long)
    with pytest.raises(KeyboardInterrupt):
        verify_in_threads([path], interrupt)
    assert len(begun) <= 16
    assert finished == []
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("verify")] == []


def test_a_checkpoint_that_is_deleted_meanwhile_has_no_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [_checkpoint_of(tmp_path, step, {"first": 10, "second": 10}) for step in (1, 2)]

    def compare_after_pruning(*arguments):
        shutil.rmtree(paths[0], ignore_errors=True)
        return compare(*arguments)

    monkeypatch.setattr(threaded_verifying, "compare", compare_after_pruning)
    first, second = verify_in_threads(paths)
    assert (first.gone, first.faults, first.sound) == (True, (), False)
    assert second.sound


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = _saved(tmp_path, 1)

    def failing(file, *arguments):
        if file.name == _ROWS:
            raise OSError(5, "Input/output error", str(file))
        return open_regular(file, *arguments)

    monkeypatch.setattr(file_digest, "open_regular", failing)
    counted: list[int] = []
    verdict = verify_in_threads([path], counted.append)[0]
    assert verdict.faults == (f"{path / _ROWS} cannot be read: Input/output error",)
    assert sum(counted) == bytes_to_read(path)


def test_a_bomb_is_a_fault_and_is_not_executed(tmp_path: Path) -> None:
    paths = _saved(tmp_path, 1, 2)
    marker = tmp_path / "exploded"
    bomb.plant_as_own_file(paths[0], _REPLICATED, bomb.raw(marker))
    bomb.plant_with_digests(paths[1], "manifest.json", bomb.raw(marker))
    first, second = verify_in_threads(paths)
    assert len(first.faults) == len(second.faults) == 1
    assert str(paths[0] / _REPLICATED) in first.faults[0]
    assert str(paths[1] / "manifest.json") in second.faults[0]
    assert not marker.exists()


def test_nothing_to_read() -> None:
    assert verify_in_threads([]) == []
