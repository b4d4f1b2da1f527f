"""A store in a bucket: in short, what the other tests of this package test for a folder."""

import os
import uuid

import numpy as np
import pytest
import tensorstore
import torch
import zarr

from distsae.errors import TornData, WrongInput
from distsae.store import Claims, Store, begin_store, collect_orphans, merge_stores, verify_store, write_attempt
from distsae.store.attempt_files import record_files
from distsae.store.claims import claimed
from distsae.store.commit import committed_units
from distsae.store.delivery import delivered
from distsae.store.location import files_under, location
from distsae.store.stored_array import StoredArray
from tests.store.synthetic import attributes, unit_data, write_store, write_unit


@pytest.fixture
def url(object_store):
    return f"{object_store}/{uuid.uuid4().hex}"


@pytest.fixture
def store(url):
    return write_store(location(url))


def _file(store, unit=1):
    chunk = next(chunk for chunk in store.chunks() if chunk.unit == unit)
    name = store.chunk_file(store.attributes.hooks[0], chunk)
    return chunk, location(store.path) / "data" / store.units[unit].attempt / name


def test_equal_to_the_same_store_in_a_folder(store, url, tmp_path):
    local = write_store(tmp_path / "local")
    assert (store.content_digest, store.fingerprint, store.rows) == (
        local.content_digest,
        local.fingerprint,
        local.rows,
    )
    for hook in local.attributes.hooks:
        for chunk in local.chunks():
            assert torch.equal(store.read_chunk(hook, chunk), local.read_chunk(hook, chunk))
            buffer = np.empty(store.buffer_bytes(hook), np.uint8)
            for _ in range(2):  # checked, and not
                rows = store.read_rows(hook, chunk, 2, chunk.rows, buffer)
                assert torch.equal(rows, local.read_chunk(hook, chunk)[2:])
    assert torch.equal(store.heldout_contexts(), local.heldout_contexts())
    assert torch.equal(store.read_ids(0).token_id, local.read_ids(0).token_id)
    assert verify_store(Store.open(url)) == []


def test_zarr_python_and_tensorstore_read_it(store, url):
    hook = store.attributes.hooks[0]
    record = store.units[0]
    expected = store.array(0, f"act/{hook}").read()
    group = zarr.open_group((location(url) / "data" / record.attempt).zarr_store(), mode="r")
    assert np.array_equal(group[f"act/{hook}"][:], expected)
    opened = tensorstore.open(
        {
            "driver": "zarr3",
            "kvstore": {
                "driver": "s3",
                "bucket": "bucket",
                "endpoint": os.environ["AWS_ENDPOINT_URL"],
                "aws_region": "us-east-1",
                "path": f"{url.removeprefix('s3://bucket/')}/data/{record.attempt}/act/{hook}/",
            },
        },
        read=True,
    ).result()
    assert np.array_equal(opened.read().result(), expected)


def test_an_array_in_other_codecs_is_read(store, url):
    """Through zarr-python: the same array in its default codecs."""
    array, folder = store.array(0, "token_id"), location(url) / "foreign"
    with delivered(folder, location(url)) as local:
        zarr.open_group(local, mode="w").create_array("token_id", data=array.read(), chunks=(10,), fill_value=-1)
        files = record_files(local)
    foreign = StoredArray(folder, "token_id", array.dtype, array.shape, 32, files)
    assert (array.direct, foreign.direct) == (True, False)
    assert np.array_equal(foreign.read(), array.read())


def test_a_flipped_byte_and_a_missing_object_are_named(store, url):
    chunk, file = _file(store)
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(TornData, match=str(file)):
        Store.open(url).read_chunk(store.attributes.hooks[0], chunk)
    assert len(verify_store(Store.open(url))) == 1
    buffer = np.empty(store.buffer_bytes(store.attributes.hooks[0]), np.uint8)
    for shortened in (content[:-1], content[:8], b""):
        file.write_bytes(bytes(shortened))
        with pytest.raises(TornData, match=f"{file} is damaged"):
            Store.open(url).read_rows(store.attributes.hooks[0], chunk, 0, 4, buffer)
    file.unlink()
    with pytest.raises(TornData, match=f"{file} is missing"):
        Store.open(url).read_chunk(store.attributes.hooks[0], chunk)
    (fault,) = verify_store(Store.open(url))
    assert str(file) in fault
    (location(url) / "commits" / "unit-000000.json").unlink()
    with pytest.raises(TornData, match=r"unit-000000\.json is missing from a sealed store"):
        Store.open(url)


def test_unfinished_and_missing_stores_are_refused(url):
    with pytest.raises(WrongInput, match="must be a store"):
        Store.open(url)
    attrs = attributes()
    begin_store(location(url), attrs)
    write_unit(location(url), attrs, 1)
    with pytest.raises(WrongInput, match="1 of 4 units"):
        Store.open(url)
    with pytest.raises(WrongInput, match="seed 5 now and 0 in the store"):
        begin_store(location(url), attributes(seed=5))


def test_a_unit_is_committed_once_and_the_loser_leaves_nothing(url):
    attrs, root = attributes(), location(url)
    begin_store(root, attrs)
    assert write_unit(root, attrs, 0)
    before = len(files_under(root))
    assert not write_unit(root, attrs, 0)
    assert len(files_under(root)) == before
    assert committed_units(root, 4) == {0}


def test_orphans_are_collected_unless_claimed(url):
    attrs, root = attributes(), location(url)
    begin_store(root, attrs)
    write_unit(root, attrs, 0)
    write_attempt(root, attrs, 0, "train", unit_data(attrs, 0))
    write_attempt(root, attrs, 1, "train", unit_data(attrs, 1))
    with Claims(root / "claims", renew_every=0.2) as claims, Claims(root / "claims") as others:
        assert claims.take("unit-000001")
        assert not others.take("unit-000001")
        assert claimed(root / "claims", "unit-000001")
        found = collect_orphans(root)
        assert (found.attempts, found.in_progress) == (1, 1)
        assert found.size > 1000
    assert not claimed(root / "claims", "unit-000001")
    assert collect_orphans(root).attempts == 1
    assert collect_orphans(root) == (0, 0, 0)


@pytest.mark.parametrize("target", ["to a folder", "to a bucket"])
def test_merging_a_folder_and_a_bucket(store, url, tmp_path, target):
    local = write_store(tmp_path / "local", attributes(corpus_fingerprint="other", seed=3))
    out = tmp_path / "merged" if target == "to a folder" else f"{url}-merged"
    merged = merge_stores([url, tmp_path / "local"], out)
    assert merged.rows == store.rows + local.rows
    assert verify_store(merged) == []
    assert [source["path"] for source in merged.sources] == [url, str((tmp_path / "local").resolve())]
