"""Files of `torch.save`: tensors are read, and whatever else is in them is one line and executes nothing."""

import io
import os
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import torch

from distsae.checked_files.torch_archive import read_torch_archive
from distsae.errors import TornData

OLD = {"_use_new_zipfile_serialization": False}


class _Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/executed-by-a-pickle",)


def _saved(path, content, **options):
    torch.save(content, path, **options)
    return path


def test_tensors_come_back(tmp_path):
    content = {"a": torch.randn(3, 4), "k": torch.tensor(3, dtype=torch.int32), "h": torch.randn(5).half()}
    found = read_torch_archive(_saved(tmp_path / "a.pt", content))
    assert found.keys() == content.keys()
    assert all(torch.equal(found[name], content[name]) for name in content)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_torch_archive(tmp_path / "none.pt")


def test_other_content_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    cases = [
        (lambda: _saved(path, [torch.zeros(1)]), "must hold a dict of tensors; got list"),
        (lambda: _saved(path, {"a": 1}), "must hold tensors by name; got 'a' of int"),
        (lambda: _saved(path, {3: torch.zeros(1)}), "must hold tensors by name; got 3"),
        (lambda: _saved(path, {"a": torch.zeros(2, 2).to_sparse()}), "must hold tensors by name; got 'a'"),
        (lambda: _saved(path, {"a": torch.zeros(1).expand(1 << 40)}), "must hold the tensors that it names; got 'a'"),
        (lambda: _saved(path, {"a": _Evil()}), "must be a dict of tensors that `torch.save` has written"),
        (lambda: path.write_bytes(pickle.dumps(_Evil())), "must be a dict of tensors"),
        (
            lambda: _saved(path, {"a": torch.zeros(1)}, _use_new_zipfile_serialization=False),
            "must be a dict of tensors",
        ),
        (lambda: path.write_bytes(b""), "must be a dict of tensors"),
    ]
    for make, words in cases:
        make()
        with pytest.raises(TornData, match=words) as caught:
            read_torch_archive(path)
        assert "\n" not in str(caught.value)
    assert not Path("/tmp/executed-by-a-pickle").exists()


def test_archives_that_grow_are_refused(tmp_path):
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1000)}, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(TornData, match="got compressed members"):
        read_torch_archive(tmp_path / "a.pt")


def test_flipped_bytes_are_refused_or_change_nothing(tmp_path):
    content = {"a": torch.randn(40, 3), "k": torch.tensor(3)}
    good = _saved(tmp_path / "a.pt", content).read_bytes()
    chance = random.Random(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(good)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        (tmp_path / "b.pt").write_bytes(damaged)
        try:
            found = read_torch_archive(tmp_path / "b.pt")
        except TornData:
            refused += 1
        else:
            assert all(torch.equal(found[name], content[name]) for name in found if name in content)
    assert refused > 50
