"""zarr-python and tensorstore read what distsae writes, and distsae reads what zarr-python writes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import zarr
import zarr.codecs

from distsae.errors import TornData
from distsae.store import Store, verify_store
from distsae.store.layout import DTYPES
from tests.store.foreign import write_foreign_store
from tests.store.synthetic import attributes, write_store

DTYPE_NAMES = ("fp16", "bf16", "fp32")

# In a process of its own: tensorstore does not survive a fork, and other tests start processes.
_TENSORSTORE = """
import hashlib, json, sys
import tensorstore as ts
found = {}
for path in sys.argv[1:]:
    store = {"driver": "file", "path": path + "/"}
    spec = {"driver": "zarr3", "kvstore": store, "fill_missing_data_reads": False}
    array = ts.open(spec, open=True, read=True).result()
    values = array.read().result()
    found[path] = [values.dtype.name, list(values.shape), hashlib.sha256(values.tobytes()).hexdigest()]
print(json.dumps(found))
"""


@pytest.fixture(scope="module", params=DTYPE_NAMES)
def store(request, tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("stores") / request.param, attributes(dtype=request.param))


def _everything(store: Store) -> dict[str, np.ndarray]:
    """Returns every array of every unit as distsae reads it, by its folder."""
    return {
        str(store.path / "data" / record.attempt / name): store.array(record.index, name).read()
        for record in store.units
        for name in store.arrays
    }


def test_zarr_python_reads_the_same(store):
    for folder, ours in _everything(store).items():
        theirs = zarr.open_array(folder, mode="r", config={"write_empty_chunks": True})
        assert theirs.dtype == ours.dtype
        assert theirs.nchunks_initialized == theirs.nchunks
        np.testing.assert_array_equal(theirs[...].view(np.uint8), ours.view(np.uint8))


def test_zarr_python_finds_group_and_attributes(store):
    for record in store.units:
        group = zarr.open_group(store.path / "data" / record.attempt, mode="r")
        own = dict(group.attrs["distsae"])
        assert (own.pop("unit"), own.pop("split")) == (record.index, record.split)
        assert own == store.attributes.to_json()
        assert sorted(group.array_keys()) == ["context_id", "context_token_ids", "document_id", "position", "token_id"]
        assert sorted(group["act"].array_keys()) == sorted(store.attributes.hooks)
        for hook in store.attributes.hooks:
            array = group["act"][hook]
            assert array.attrs["logical_dtype"] == store.attributes.dtype
            assert array.dtype == {"fp16": np.float16, "bf16": np.uint16, "fp32": np.float32}[store.attributes.dtype]
            assert array.fill_value == 0xFFFF if store.attributes.dtype == "bf16" else np.isnan(array.fill_value)


def test_tensorstore_reads_the_same(store):
    pytest.importorskip("tensorstore", reason="part of the extra `test`")
    ours = _everything(store)
    answer = subprocess.run([sys.executable, "-c", _TENSORSTORE, *ours], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    theirs = json.loads(answer.stdout)
    for folder, values in ours.items():
        digest = hashlib.sha256(values.tobytes()).hexdigest()
        assert theirs[folder] == [values.dtype.name, list(values.shape), digest], folder


FOREIGN = {
    "defaults": {},
    "small chunks, also across": {"chunks": lambda array: (7, *(2 for _ in array.shape[1:]))},
    "shards": {
        "chunks": lambda array: (10, *array.shape[1:]),
        "shards": lambda array: (40, *array.shape[1:]),
    },
    "gzip, then crc32c": {"compressors": (zarr.codecs.GzipCodec(level=1), zarr.codecs.Crc32cCodec())},
    "plain, no crc": {"compressors": None},
    "big endian": {"serializer": zarr.codecs.BytesCodec(endian="big")},
    "keys with dots": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
}


@pytest.mark.parametrize("dtype", DTYPE_NAMES)
@pytest.mark.parametrize("options", FOREIGN.values(), ids=FOREIGN)
def test_distsae_reads_stores_in_other_codecs(tmp_path, options, dtype):
    attrs = attributes(dtype=dtype)
    ours = write_store(tmp_path / "ours", attrs)
    # zarr-python leaves out chunks that are all fill value: with one that no data can have, none are.
    fill = {"fp16": float("nan"), "bf16": 0xFFFF, "fp32": float("nan")}[dtype]
    theirs = write_foreign_store(
        tmp_path / "theirs", attrs, fill_value=lambda array: -1 if array.dtype.kind == "i" else fill, **options
    )
    assert not theirs.array(0, "act/c").direct
    assert theirs.chunks() == ours.chunks()
    for hook in attrs.hooks:
        for split in ("train", "heldout"):
            for chunk in ours.chunks(split):
                read = theirs.read_chunk(hook, chunk)
                assert read.dtype == DTYPES[dtype].torch
                assert torch.equal(read, ours.read_chunk(hook, chunk))
        assert torch.equal(theirs.statistics(hook).mean, ours.statistics(hook).mean)
    for unit in range(4):
        ids, expected = theirs.read_ids(unit), ours.read_ids(unit)
        assert torch.equal(ids.context_id, expected.context_id)
        assert torch.equal(ids.token_id, expected.token_id)
    assert torch.equal(theirs.heldout_contexts(), ours.heldout_contexts())
    assert theirs.content_digest == ours.content_digest
    assert verify_store(theirs) == []


def test_a_chunk_that_zarr_python_left_out_is_an_error_not_zeros(tmp_path):
    """By default it does not write chunks that are all zeros, and these cannot be told from lost ones."""
    theirs = write_foreign_store(tmp_path / "s", chunks=lambda array: (1, *array.shape[1:]))
    record = theirs.units[0]
    left_out = [file for name in theirs.arrays for file in theirs.array(0, name).files() if file not in record.files]
    assert left_out  # document and context number 0, for example
    with pytest.raises(TornData, match=f"{left_out[0]} is not in the commit record"):
        theirs.read_ids(0)
    assert any(left_out[0] in fault for fault in verify_store(theirs))
