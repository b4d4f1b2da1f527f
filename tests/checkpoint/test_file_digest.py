"""Files are compared byte for byte."""

from __future__ import annotations

import hashlib
from pathlib import Path

from distsae.checkpoint.file_digest import FileDigest, compare, compare_size, digest_of


def test_what_differs_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"twelve bytes")
    expected = digest_of(file)
    assert expected.bytes == 12
    assert compare(file, expected) == compare_size(file, expected) == ""
    file.write_bytes(b"twelve bites")
    assert compare_size(file, expected) == ""
    assert compare(file, expected) == f"{file} is damaged: its SHA-256 is not the one in its manifest"
    file.write_bytes(b"twelve")
    assert compare(file, expected) == compare_size(file, expected) == f"{file} has 6 bytes, its manifest says 12"
    file.unlink()
    assert compare(file, expected) == compare_size(file, expected) == f"{file} is missing"


def test_a_large_file_is_read_in_blocks(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000 + b"end"
    (tmp_path / "file").write_bytes(content)
    blocks: list[int] = []
    assert digest_of(tmp_path / "file", blocks.append) == FileDigest(len(content), hashlib.sha256(content).hexdigest())
    assert sum(blocks) == len(content)
    assert len(blocks) >= 3
    assert compare(tmp_path / "file", digest_of(tmp_path / "file"), blocks.append) == ""
    assert sum(blocks) == 2 * len(content)
