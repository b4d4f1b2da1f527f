"""Files are compared byte for byte, and small ones replaced whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from distsae.checkpoint.disk import compare, record_of, replace_text, sync_folder, write_durably


def test_what_differs_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_durably(file, b"twelve bytes")
    expected = record_of(file)
    assert expected.bytes == 12
    assert compare(file, expected) == ""
    file.write_bytes(b"twelve bites")
    assert compare(file, expected) == f"{file} is damaged: its SHA-256 is not the one in its manifest"
    file.write_bytes(b"twelve")
    assert compare(file, expected) == f"{file} has 6 bytes, its manifest says 12"
    file.unlink()
    assert compare(file, expected) == f"{file} is missing"


def test_nothing_is_overwritten_by_accident(tmp_path: Path) -> None:
    write_durably(tmp_path / "file", b"one")
    with pytest.raises(FileExistsError):
        write_durably(tmp_path / "file", b"two")
    assert (tmp_path / "file").read_bytes() == b"one"


def test_text_is_replaced(tmp_path: Path) -> None:
    for text in ("one\n", "two\n"):
        replace_text(tmp_path / "latest", text)
        assert (tmp_path / "latest").read_text() == text
    sync_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["latest"]
