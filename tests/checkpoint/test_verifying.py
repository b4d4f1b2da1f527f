"""Every file of a checkpoint is read and compared with the manifest."""

from __future__ import annotations

from pathlib import Path

import pytest

from distsae.checkpoint import newest, save, verify
from distsae.checkpoint.manifest import read_manifest
from distsae.checkpoint.ranks import Ranks
from distsae.checkpoint.verifying import check_files
from distsae.errors import TornData
from tests.checkpoint.samples import cut, whole


def test_every_damaged_file_is_named(tmp_path: Path) -> None:
    path = save(tmp_path, 1, cut(whole(1), 1, 0), {})
    assert verify(path) == []
    (path / "replicated.safetensors").unlink()
    (path / "feature-00000-of-00001.safetensors").write_bytes(b"")
    problems = verify(path)
    assert len(problems) == 2
    assert "feature-00000-of-00001.safetensors has 0 bytes" in problems[0]
    assert problems[1] == f"{path / 'replicated.safetensors'} is missing"
    files = read_manifest(path).files
    with pytest.raises(TornData, match="feature-00000"):
        check_files(path, files, Ranks(None))
    check_files(path, {}, Ranks(None))


def test_a_path_that_is_not_a_checkpoint(tmp_path: Path) -> None:
    assert "must be a checkpoint's folder" in verify(tmp_path / "nowhere")[0]
    assert verify(tmp_path) == [f"{tmp_path / 'manifest.json'} is missing"]


def test_files_that_are_not_listed_are_ignored(tmp_path: Path) -> None:
    path = save(tmp_path, 1, cut(whole(1), 1, 0), {})
    (path / "notes.txt").write_text("a note")
    assert verify(path) == []


def test_progress_is_reported(tmp_path: Path) -> None:
    path, read = save(tmp_path, 1, cut(whole(1), 1, 0), {}), []
    assert newest(tmp_path, on_read=read.append) == (path, [])
    assert sum(read) == sum(digest.bytes for digest in read_manifest(path).files.values())
