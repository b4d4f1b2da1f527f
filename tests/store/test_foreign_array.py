"""Zarr metadata from a stranger: sizes are compared with the files first, and every other fault ends in one line."""

import copy
import json

import numpy as np
import pytest
import zarr

from distsae.errors import TornData
from distsae.store.attempt_files import record_files
from distsae.store.foreign_array import ForeignArray

VALUES = np.arange(200, dtype=np.float32).reshape(50, 4)


@pytest.fixture(params=["chunks", "shards"])
def array(request, tmp_path):
    """The folder of an array in other chunks or in shards, and its metadata."""
    shards = (40, 4) if request.param == "shards" else None
    stored = zarr.create_array(tmp_path / "a", shape=(50, 4), dtype="f4", chunks=(10, 2), shards=shards, fill_value=-1)
    stored[...] = VALUES
    return tmp_path / "a", json.loads((tmp_path / "a" / "zarr.json").read_text())


def _opened(folder, metadata):
    (folder / "zarr.json").write_text(json.dumps(metadata))
    return ForeignArray(folder, metadata, np.dtype("<f4"), (50, 4), record_files(folder))


def test_rows_and_the_files_that_hold_them(array):
    folder, metadata = array
    found = _opened(folder, metadata)
    np.testing.assert_array_equal(found.read(5, 45), VALUES[5:45])
    assert found.read(0, 50).flags.writeable
    assert {*found.files(0, 50), "zarr.json"} == set(record_files(folder))


def _chunks(*lengths):
    def change(metadata):
        metadata["chunk_grid"]["configuration"]["chunk_shape"] = list(lengths)
        for codec in metadata["codecs"]:
            codec.get("configuration", {}).pop("chunk_shape", None)

    return change


def _inner(*lengths):
    def change(metadata):
        codecs = [codec for codec in metadata["codecs"] if codec["name"] == "sharding_indexed"]
        if not codecs:
            codecs = [{"name": "sharding_indexed", "configuration": {"codecs": [{"name": "bytes"}]}}]
            metadata["codecs"] = codecs
        codecs[0]["configuration"]["chunk_shape"] = list(lengths)

    return change


def _with(**changes):
    return lambda metadata: metadata.update(changes)


@pytest.mark.parametrize(
    "change",
    [
        _chunks(10**15, 4),
        _chunks(10**7, 10),
        _chunks(10**400, 4),
        _chunks(0, 4),
        _chunks(-1, 4),
        _chunks(10),
        _chunks("10", 4),
        _inner(10**15, 4),
        _inner(0, 2),
        _inner(3, 3),
        _inner(),
        _with(chunk_grid={"name": "regular"}),
        _with(chunk_grid=[]),
        _with(chunk_grid={"name": "rectilinear", "configuration": {"chunk_shape": [10, 2]}}),
        _with(codecs=[]),
        _with(codecs=None),
        _with(codecs=["bytes", "no-such-codec"]),
        _with(codecs=[{"name": "bytes", "configuration": {"endian": 3}}]),
        _with(codecs=[{"name": "transpose", "configuration": {"order": [7, 7]}}, {"name": "bytes"}]),
        _with(codecs=[{"name": "transpose", "configuration": {"order": "F"}}, {"name": "bytes"}]),
        _with(chunk_key_encoding={"name": "default", "configuration": {"separator": "../../x"}}),
        _with(chunk_key_encoding=7),
        _with(fill_value={"a": []}),
        _with(fill_value="x" * 5000),
        _with(data_type={"name": "float32"}),
        _with(data_type=[1]),
        _with(shape=[50]),
        _with(shape=[50, 10**400]),
        _with(shape=[5, 4]),
        _with(node_type="group"),
        _with(zarr_format=2),
        _with(storage_transformers=[{"name": "later"}]),
        _with(later={"must_understand": True}),
    ],
)
def test_metadata_that_make_no_sense_are_named_in_one_line(array, change):
    folder, metadata = array
    metadata = copy.deepcopy(metadata)
    change(metadata)
    with pytest.raises(TornData, match=f"{folder}/zarr.json ") as error:
        _opened(folder, metadata).read(0, 50)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("codec", ["gzip", "zstd", "blosc", "bytes", "crc32c"])
def test_chunks_that_a_codec_cannot_decode_are_named(tmp_path, codec):
    folder = tmp_path / "a"
    zarr.create_array(folder, shape=(50, 4), dtype="f4", chunks=(10, 2), fill_value=-1)[...] = VALUES
    metadata = json.loads((folder / "zarr.json").read_text())
    first = {"name": "bytes", "configuration": {"endian": "little"}}
    metadata["codecs"] = [first, {"name": codec, "configuration": {"level": 1} if codec == "gzip" else {}}]
    if codec == "bytes":
        metadata["codecs"] = [first]
    for file in (folder / "c").rglob("*"):
        if file.is_file():
            file.write_bytes(b"no such stream" * 9)
    with pytest.raises(TornData, match=r"zarr.json does not describe its chunks: \w+ ") as error:
        _opened(folder, metadata).read(0, 50)
    assert "\n" not in str(error.value)


def test_a_fault_of_the_disk_is_not_one_of_the_metadata(array, monkeypatch):
    folder, metadata = array
    found = _opened(folder, metadata)

    def broken(self, key):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(zarr.Array, "__getitem__", broken)
    with pytest.raises(OSError, match="Input/output error"):
        found.read(0, 50)
