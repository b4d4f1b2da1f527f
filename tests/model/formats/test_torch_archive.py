"""torch reads what is streamed, and so does any reader of zip files, checksums included."""

import zipfile

import pytest
import torch

from distsae.model.formats.tensor_writing import from_source, from_values
from distsae.model.formats.torch_archive import write_torch_archive
from distsae.model.formats.weight_source import MemoryWeights


@pytest.mark.parametrize("block_bytes", [1, 100, 1 << 20])
def test_torch_and_zip_read_it(tmp_path, block_bytes):
    x = torch.randn(9, 4)
    source = MemoryWeights({"x": x})
    tensors = {
        "k": from_values(torch.tensor(7, dtype=torch.int32)),
        "threshold": from_values(torch.tensor(-1.0)),
        "encoder.weight": from_source(source, "x", transposed=True),
        "half": from_source(source, "x", torch.bfloat16),
    }
    told = []
    write_torch_archive(tmp_path / "ae.pt", tensors, source, told.append, block_bytes)
    found = torch.load(tmp_path / "ae.pt", weights_only=True)
    assert list(found) == list(tensors)
    assert found["k"] == 7
    assert found["k"].shape == ()
    assert found["threshold"] == -1
    assert torch.equal(found["encoder.weight"], x.t())
    assert torch.equal(found["half"], x.bfloat16())
    with zipfile.ZipFile(tmp_path / "ae.pt") as archive:
        assert archive.testzip() is None
    assert sum(told) == 4 + 4 + 9 * 4 * 6


def test_it_is_what_torch_save_writes(tmp_path):
    """Byte for byte but for the name of the folder inside, which has the name of the file."""
    x = torch.randn(300, 40)
    source = MemoryWeights({"x": x})
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    write_torch_archive(tmp_path / "ours" / "ae.pt", {"x": from_source(source, "x")}, source)
    torch.save({"x": x}, tmp_path / "theirs" / "ae.pt")
    with zipfile.ZipFile(tmp_path / "ours" / "ae.pt") as ours, zipfile.ZipFile(tmp_path / "theirs" / "ae.pt") as theirs:
        assert ours.namelist() == theirs.namelist()
        for name in ours.namelist():
            if "serialization_id" not in name:
                assert ours.read(name) == theirs.read(name), name
