"""The files are safetensors files like any other, for every dtype and for tensors of more than one block."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from distsae.checkpoint.file_digest import digest_of
from distsae.checkpoint.tensorfile import read_rows, write_tensors
from distsae.errors import TornData
from tests.checkpoint.samples import whole


def test_the_safetensors_library_reads_the_files(tmp_path: Path) -> None:
    tensors = whole(4) | {"": torch.zeros(2, 0), "i8": torch.arange(-3, 4, dtype=torch.int8)}
    written = write_tensors(tmp_path / "tensors", tensors)
    assert written == digest_of(tmp_path / "tensors")
    read = load_file(tmp_path / "tensors")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert read[name].shape == tensor.shape
        assert torch.equal(read[name], tensor)


def test_nan_payloads_and_signed_zeros_survive(tmp_path: Path) -> None:
    bits = torch.tensor([0x7FC00001, -(2**31), 0x7F800001, 1], dtype=torch.int32)
    write_tensors(tmp_path / "bits", {"x": bits.view(torch.float32)})
    back = torch.zeros(4)
    read_rows(tmp_path / "bits", "x", 0, back)
    assert torch.equal(back.view(torch.int32), bits)


def test_blocks_smaller_than_the_tensor(tmp_path: Path) -> None:
    tensors = whole(5)
    assert write_tensors(tmp_path / "blocks", tensors, block_bytes=100) == write_tensors(tmp_path / "whole", tensors)
    for name, tensor in tensors.items():
        back = torch.zeros_like(tensor)
        read_rows(tmp_path / "blocks", name, 0, back, block_bytes=100)
        assert torch.equal(back, tensor)
    rows = torch.zeros(7, 6)
    read_rows(tmp_path / "blocks", "W_enc", 5, rows, block_bytes=100)
    assert torch.equal(rows, tensors["W_enc"][5:12])


def test_an_existing_file_is_never_written_into(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x", {"a": torch.ones(2)})
    with pytest.raises(FileExistsError):
        write_tensors(tmp_path / "x", {"a": torch.ones(2)})


def test_other_files_and_missing_rows_are_refused(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"\x80\x04 not safetensors")
    with pytest.raises(TornData, match="noise"):
        read_rows(tmp_path / "noise", "a", 0, torch.zeros(1))
    save_file({"a": torch.zeros(3, 2)}, tmp_path / "other")
    with pytest.raises(TornData, match="other"):
        read_rows(tmp_path / "other", "b", 0, torch.zeros(1))
    with pytest.raises(TornData, match="other"):
        read_rows(tmp_path / "other", "a", 1, torch.zeros(3, 2))
