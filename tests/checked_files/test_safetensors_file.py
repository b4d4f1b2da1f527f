"""Tensors as the safetensors library writes them, without a map of the file; what does not fit ends in one line."""

import json

import pytest
import torch
from safetensors.torch import save_file

from distsae.checked_files.safetensors_file import DTYPES, SafetensorsFile
from distsae.errors import TornData

TENSORS = {
    **{name: torch.arange(12).reshape(4, 3).to(dtype) for name, dtype in DTYPES.items()},
    "one": torch.tensor(7.5),
    "none": torch.zeros(0, 3),
    "": torch.ones(2),
}


@pytest.fixture
def file(tmp_path):
    save_file(TENSORS, tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def test_every_tensor_is_read(file):
    with SafetensorsFile(file) as opened:
        assert opened.entries.keys() == TENSORS.keys()
        for name, tensor in TENSORS.items():
            found = opened.tensor(name)
            assert found.dtype == tensor.dtype
            assert torch.equal(found, tensor)


@pytest.mark.parametrize("block_bytes", [1, 25, 10**6])
def test_some_rows_into_memory_of_any_kind(file, block_bytes):
    with SafetensorsFile(file) as opened:
        for into in (torch.zeros(2, 3), torch.zeros(3, 2).t(), torch.zeros(2, 3, dtype=torch.float64)):
            opened.read_rows("F32", 1, into, block_bytes)
            assert torch.equal(into.float(), TENSORS["F32"][1:3])


def test_rows_that_are_not_there(file):
    with SafetensorsFile(file) as opened:
        for name, start, into in (
            ("other", 0, torch.zeros(1)),
            ("F32", 3, torch.zeros(2, 3)),
            ("F32", 0, torch.zeros(2, 2)),
            ("F32", 0, torch.tensor(0.0)),
            ("one", 0, torch.zeros(1)),
        ):
            with pytest.raises(TornData, match=str(file)):
                opened.read_rows(name, start, into)
        file.write_bytes(file.read_bytes()[:-40])
        with pytest.raises(TornData, match="has become shorter"):
            [opened.tensor(name) for name in DTYPES]


def _content(header, data=b"\0" * 8, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def _entry(**changes):
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04 not safetensors",
        _content(b"{", length=2**63),
        _content(b"{", length=100),
        _content(b"["),
        _content([]),
        _content(_entry(dtype="F8_E4M3")),
        _content(_entry(dtype=7)),
        _content(_entry(shape=[3])),
        _content(_entry(shape=[2**62, 2**62])),
        _content(_entry(shape=[-2])),
        _content(_entry(shape=[True, 2])),
        _content(_entry(data_offsets=[8, 0])),
        _content(_entry(data_offsets=[4, 12])),
        _content(_entry(data_offsets=[0])),
        _content({**_entry(), "b": _entry()["a"]}),  # two tensors of the same bytes: a small file of any size in memory
        _content(_entry(), b"\0" * 7),
        _content(_entry(), b"\0" * 9),
    ],
)
def test_what_is_no_safetensors_file_is_named(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(TornData, match=f"{path} is damaged") as error:
        SafetensorsFile(path)
    assert "\n" not in str(error.value)


def test_it_reads_the_metadata_of_the_library_and_no_links(file, tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "b", metadata={"format": "pt"})
    with SafetensorsFile(tmp_path / "b") as opened:
        assert list(opened.entries) == ["a"]
    (tmp_path / "link").symlink_to(file)
    with pytest.raises(TornData, match="is a symbolic link"):
        SafetensorsFile(tmp_path / "link", tmp_path)
