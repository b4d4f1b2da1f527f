"""The safetensors library reads what is streamed."""

import pytest
import torch
from safetensors.torch import load_file

from distsae.model.formats.safetensors_stream import write_safetensors
from distsae.model.formats.tensor_writing import from_source, from_values
from distsae.model.formats.weight_source import MemoryWeights


@pytest.mark.parametrize("block_bytes", [1, 100, 1 << 20])
def test_the_library_reads_it(tmp_path, block_bytes):
    x = torch.randn(9, 4)
    source = MemoryWeights({"x": x})
    tensors = {
        "half": from_source(source, "x", torch.bfloat16),
        "turned": from_source(source, "x", transposed=True),
        "k": from_values(torch.tensor(7, dtype=torch.int32)),
    }
    told = []
    write_safetensors(tmp_path / "x.safetensors", tensors, source, told.append, block_bytes)
    found = load_file(tmp_path / "x.safetensors")
    assert torch.equal(found["half"], x.bfloat16())
    assert torch.equal(found["turned"], x.t())
    assert found["k"] == 7
    assert sum(told) == 9 * 4 * 6 + 4


def test_a_file_that_exists_is_kept(tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(FileExistsError):
        write_safetensors(tmp_path / "x", {}, MemoryWeights({}))
    assert (tmp_path / "x").read_text() == "mine"
