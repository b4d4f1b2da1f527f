"""Small files are replaced whole, and never by accident."""

from __future__ import annotations

from pathlib import Path

import pytest

from distsae.durable import beside, replace, sync, write_new


def test_nothing_is_overwritten_by_accident(tmp_path: Path) -> None:
    write_new(tmp_path / "file", b"one")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "file", b"two")
    assert (tmp_path / "file").read_bytes() == b"one"


def test_content_is_replaced(tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        replace(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    sync(tmp_path)
    sync(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failure_leaves_the_old_content_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(tmp_path / "file", b"one")

    def fails(*_: object) -> None:
        raise OSError("full")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(OSError, match="full"):
        replace(tmp_path / "file", b"two")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"one"


def test_hidden_names_are_fresh(tmp_path: Path) -> None:
    one, two = (beside(tmp_path / "file") for _ in range(2))
    assert one != two
    assert one.name.startswith(".file-")
    assert one.parent == tmp_path
