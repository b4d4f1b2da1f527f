"""Parts of weights are the same from memory and from the file, and a file is read only where it is asked for."""

import pytest
import torch
from safetensors.torch import save_file

from distsae.checked_files.safetensors_file import SafetensorsFile
from distsae.errors import TornData
from distsae.model.formats.weight_source import FileWeights, MemoryWeights, row_blocks


def _tensors():
    generator = torch.Generator().manual_seed(0)
    return {"a": torch.randn(7, 5, generator=generator), "b": torch.randn(6, generator=generator).bfloat16()}


@pytest.fixture(params=["memory", "file"])
def source(request, tmp_path):
    if request.param == "memory":
        yield MemoryWeights(_tensors())
        return
    save_file(_tensors(), tmp_path / "x.safetensors")
    with SafetensorsFile(tmp_path / "x.safetensors") as file:
        yield FileWeights(file)


def test_rows_and_columns(source):
    a, b = _tensors()["a"], _tensors()["b"]
    assert sorted(source.names()) == ["a", "b"]
    assert source.shape("a") == (7, 5)
    assert source.dtype("b") == torch.bfloat16
    assert torch.equal(source.rows("a", 2, 6), a[2:6])
    assert torch.equal(source.columns("a", 1, 4), a[:, 1:4])
    assert torch.equal(source.rows("b", 0, 6), b)


@pytest.mark.parametrize("block_bytes", [1, 20, 60, 1 << 20])
def test_blocks_are_all_rows_in_order(source, block_bytes):
    blocks = list(row_blocks(source, "a", block_bytes))
    assert torch.equal(torch.cat([block for _, block in blocks]), _tensors()["a"])
    assert [first for first, _ in blocks] == list(range(0, 7, max(block_bytes // 20, 1)))


def test_columns_that_a_file_lacks(tmp_path):
    save_file(_tensors(), tmp_path / "x.safetensors")
    with SafetensorsFile(tmp_path / "x.safetensors") as file:
        source = FileWeights(file)
        for name, first, last in (("a", 3, 6), ("b", 0, 1)):
            with pytest.raises(TornData, match="safetensors has"):
                source.columns(name, first, last)
