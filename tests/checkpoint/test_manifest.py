"""No byte of the manifest can change unnoticed."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest

from distsae.checkpoint.file_digest import FileDigest
from distsae.checkpoint.manifest import Manifest, Piece, TensorRecord, read_manifest, write_manifest
from distsae.errors import TornData, WrongInput

_MANIFEST = Manifest(
    step=3,
    files={"a.safetensors": FileDigest(100, "00")},
    tensors={
        "W": TensorRecord("F32", (4, 2), (Piece("a.safetensors", 0, 4),)),
        "s": TensorRecord("I64", (), (Piece("a.safetensors", 0, 1),)),
    },
    facts={"lr": 0.1 + 0.2, "big": 2**70, "name": "ö", "none": None, "list": [1, {"x": False}]},
)


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_manifest(tmp_path, _MANIFEST)
    assert read_manifest(tmp_path) == _MANIFEST
    subprocess.run(["sha256sum", "--check", "--quiet", "manifest.json.sha256"], cwd=tmp_path, check=True)


def test_every_flipped_byte_is_detected(tmp_path: Path) -> None:
    write_manifest(tmp_path, _MANIFEST)
    for name in ("manifest.json", "manifest.json.sha256"):
        content = (tmp_path / name).read_bytes()
        for position in range(len(content)):
            flipped = bytes([content[position] ^ 4])
            (tmp_path / name).write_bytes(content[:position] + flipped + content[position + 1 :])
            with pytest.raises(TornData, match=r"manifest\.json"):
                read_manifest(tmp_path)
        (tmp_path / name).write_bytes(content)
    read_manifest(tmp_path)


def test_another_version_of_the_format_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, _MANIFEST)
    content = (tmp_path / "manifest.json").read_bytes().replace(b'"format_version": 1', b'"format_version": 9')
    (tmp_path / "manifest.json").write_bytes(content)
    (tmp_path / "manifest.json.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  manifest.json\n")
    with pytest.raises(WrongInput, match="format version 1; got 9"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "content", [b"\x80\x04.", b"{", b"[]", b"{}", b"null", b'{"format_version": 1, "step": 1}', b"[" * 100_000]
)
def test_another_file_with_a_fitting_digest_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    (tmp_path / "manifest.json.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  manifest.json\n")
    with pytest.raises(TornData, match=r"manifest\.json is not the manifest of a checkpoint"):
        read_manifest(tmp_path)


def _write(folder: Path, fields: object) -> None:
    content = json.dumps(fields).encode()
    (folder / "manifest.json").write_bytes(content)
    (folder / "manifest.json.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  manifest.json\n")


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("files",), {"../x": {"bytes": 1, "sha256": ""}}, "`files` must have plain names of data files; got '../x'"),
        (("files",), {"manifest.json": {"bytes": 1, "sha256": ""}}, "`files` must have plain names of data files"),
        (("files",), {}, "`tensors.W.pieces` must be in files of the manifest; got 'a.safetensors'"),
        (("files", "a.safetensors", "bytes"), 8, "`tensors.W.pieces` must fit into their files; got 4 rows"),
        (("files", "a.safetensors", "bytes"), "8", "`files.a.safetensors.bytes` must be a whole number; got '8'"),
        (("step",), -1, "`step` must be at least 0; got -1"),
        (("tensors", "W", "shape"), [10**15, 2], "`tensors.W.pieces` must cover all 1000000000000000 rows; got 4"),
        (("tensors", "W", "shape"), [4, 10**15], "`tensors.W.pieces` must fit into their files"),
        (("tensors", "W", "shape"), [1] * 100, "`tensors.W.shape` must be of a length at least 0 and at most 16"),
        (("tensors", "W", "pieces", 0, "start"), 1, "`tensors.W.pieces` must cover its rows in order"),
        (("tensors", "W", "pieces", 0, "stop"), None, "`tensors.W.pieces.0.stop` must be a whole number; got None"),
        (("facts",), [], "`facts` must be an object; got empty list"),
    ],
)
def test_what_a_manifest_declares_must_fit_its_files(tmp_path: Path, place: tuple, value: object, words: str) -> None:
    write_manifest(tmp_path, _MANIFEST)
    fields = json.loads((tmp_path / "manifest.json").read_text())
    *path, name = place
    parent = fields
    for part in path:
        parent = parent[part]
    parent[name] = value
    _write(tmp_path, fields)
    with pytest.raises(TornData, match=re.escape(words)):
        read_manifest(tmp_path)


def test_fields_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    write_manifest(tmp_path, _MANIFEST)
    _write(tmp_path, {**json.loads((tmp_path / "manifest.json").read_text()), "later": {"a": 1}})
    assert read_manifest(tmp_path) == _MANIFEST
