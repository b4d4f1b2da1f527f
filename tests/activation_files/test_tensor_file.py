"""Tensors in files: read in parts, chosen by name, and nothing executed."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from distsae.activation_files.tensor_file import id_tensor, tensor_rows
from distsae.errors import WrongInput


class _Evil:
    def __reduce__(self):
        return os.mkdir, ("planted",)


@pytest.mark.parametrize("shape", [(30, 4), (30, 5, 4)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_safetensors_file_is_read_in_parts(shape, dtype, tmp_path):
    whole = torch.randn(shape).to(dtype)
    save_file({"x": whole, "other": torch.zeros(2)}, tmp_path / "a.safetensors")
    (source,) = tensor_rows(tmp_path / "a.safetensors", "x")
    length = 1 if len(shape) == 2 else shape[1]
    assert (source.contexts, source.length, source.d_in, source.dtype) == (30, length, 4, dtype)
    for wanted in ([3, 4, 5], [0, 7, 8, 29], []):
        taken = source.take(np.array(wanted, np.int64))
        assert torch.equal(taken.reshape(-1, 4), whole[wanted].reshape(-1, 4))


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_the_tensor_is_chosen_by_name(ending, tmp_path):
    file = tmp_path / f"a{ending}"
    tensors = {"layer 3": torch.ones(5, 2), "layer 4": torch.zeros(5, 2)}
    torch.save(tensors, file) if ending == ".pt" else save_file(tensors, file)
    (source,) = tensor_rows(file, "layer 4")
    assert not source.take(np.arange(5)).any()
    with pytest.raises(WrongInput, match=r"`key` must name the tensor .* got 2 .*'layer 3', 'layer 4'"):
        tensor_rows(file, None)
    with pytest.raises(WrongInput, match=r"`key` \(=layer5\) must be a tensor of .*did you mean"):
        tensor_rows(file, "layer5")


def test_files_from_old_versions_of_torch(tmp_path):
    torch.save(torch.ones(4, 3), tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    (source,) = tensor_rows(tmp_path / "a.pth", None)
    assert source.contexts == 4
    with pytest.raises(WrongInput, match=r"`key` \(=x\) must be left out"):
        tensor_rows(tmp_path / "a.pth", "x")


@pytest.mark.parametrize("damage", ["code", "short", "text", "empty", "other"])
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_damaged_files_and_code_are_refused_in_one_line(ending, damage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"a{ending}"
    torch.save(torch.ones(300, 3), file) if ending == ".pt" else save_file({"x": torch.ones(300, 3)}, file)
    if damage == "code":
        torch.save({"x": _Evil()}, file)
    elif damage == "other":
        torch.save("text", file)
    else:
        file.write_bytes({"short": file.read_bytes()[:-600], "text": b"hello" * 50, "empty": b""}[damage])
    for read in (lambda: tensor_rows(file, None), lambda: id_tensor(file, "token_ids")):
        with pytest.raises(WrongInput, match=f"file {file} must") as error:
            read()
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 600
    assert not Path("planted").exists()
