"""Whoever shares a folder can read what is written there: every file and folder has the mode that the umask gives."""

from __future__ import annotations

import os

import pytest

from distsae.cli.main import main
from tests.end_to_end.runs import arguments


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_modes_of_all_products_of_a_run(umask, tiny_store, tmp_path):
    out = tmp_path / "run"
    before = os.umask(umask)
    try:
        assert main(arguments(tiny_store, out, **{"mesh.feature": 1, "steps": 4, "checkpoint.every": 2})) == 0
        assert main(["evaluate", str(out), "--store", str(tiny_store), "--max_tokens", "200"]) == 0
        assert main(["report", str(out)]) == 0
    finally:
        os.umask(before)
    files = [path for path in out.rglob("*") if path.is_file()]
    folders = [out, *(path for path in out.rglob("*") if path.is_dir())]
    assert {path.suffix for path in files} >= {".safetensors", ".json", ".jsonl", ".yaml", ".npz", ".html"}
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {oct(0o666 & ~umask)}
    assert {oct(path.stat().st_mode & 0o777) for path in folders} == {oct(0o777 & ~umask)}
