"""Blocks land where they belong, whatever their size and either way round."""

import os

import pytest
import torch

from distsae.errors import WrongInput
from distsae.model.formats.tensor_writing import all_bytes, fill, from_source, from_values
from distsae.model.formats.weight_source import MemoryWeights


def _written(tmp_path, tensor, source, block_bytes, offset=16):
    path = tmp_path / "file"
    path.write_bytes(b"\xff" * (offset + tensor.nbytes + 8))
    told = []
    with path.open("r+b") as file:
        fill(file.fileno(), offset, tensor, source, told.append, block_bytes)
    content = path.read_bytes()
    assert content[:offset] == b"\xff" * offset
    assert content[offset + tensor.nbytes :] == b"\xff" * 8
    assert sum(told) == tensor.nbytes
    found = torch.frombuffer(bytearray(content[offset : offset + tensor.nbytes]), dtype=tensor.dtype)
    return found.reshape(tensor.shape)


@pytest.mark.parametrize("block_bytes", [1, 40, 100, 1 << 20])
@pytest.mark.parametrize("shape", [(3, 11), (11, 3), (4, 4)])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_a_matrix_is_written_as_it_is_or_transposed(tmp_path, shape, transposed, dtype, block_bytes):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    source = MemoryWeights({"x": x})
    tensor = from_source(source, "x", dtype, transposed=transposed)
    expected = (x.t() if transposed else x).to(dtype or torch.float32)
    assert tensor.shape == tuple(expected.shape)
    assert torch.equal(_written(tmp_path, tensor, source, block_bytes), expected)


def test_small_tensors_and_their_bytes(tmp_path):
    source = MemoryWeights({})
    whole = from_values(torch.tensor(5, dtype=torch.int32))
    vector = from_values(torch.arange(4.0), torch.float16)
    assert _written(tmp_path, whole, source, 100) == 5
    assert _written(tmp_path, vector, source, 100).tolist() == [0, 1, 2, 3]
    assert all_bytes({"a": whole, "b": vector}) == 4 + 8


def test_weights_that_a_dtype_cannot_hold(tmp_path):
    source = MemoryWeights({"x": torch.tensor([[1.0, 1e5], [-1e6, 2.0]])})
    tensor = from_source(source, "x", torch.float16)
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    with pytest.raises(WrongInput, match="got float16, in which 2 of them are infinite; use bf16"):
        fill(descriptor, 0, tensor, source)
    os.close(descriptor)
