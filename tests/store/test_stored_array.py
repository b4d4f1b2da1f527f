import json
import shutil

import numpy as np
import pytest
import zarr
import zarr.codecs

from distsae.errors import TornData
from distsae.store import begin_store
from distsae.store.attempt_files import record_files
from distsae.store.buffers import page_aligned, size_for_any_offset
from distsae.store.crc32c import crc32c
from distsae.store.layout import StorePaths
from distsae.store.stored_array import StoredArray
from distsae.store.writer import write_attempt
from tests.store.foreign import commit_foreign_unit
from tests.store.synthetic import attributes, unit_data


@pytest.fixture
def unit(tmp_path):
    attrs = attributes()
    record = write_attempt(tmp_path, attrs, 0, "train", unit_data(attrs, 0))
    return StorePaths(tmp_path).attempt(record.attempt), record.files, unit_data(attrs, 0)


def _open(folder, files, **changes):
    values = {"name": "act/a.b", "dtype": np.dtype("<f4"), "shape": (96, 6), "chunk_rows": 32}
    return StoredArray(folder, files=files, **{**values, **changes})


def test_our_own_arrays_are_read_straight_from_their_files(unit):
    folder, files, data = unit
    array = _open(folder, files)
    assert array.direct
    assert array.files() == [f"act/a.b/c/{index}/0" for index in range(3)]
    assert array.files(40, 64) == ["act/a.b/c/1/0"]
    np.testing.assert_array_equal(array.read(), data.acts["a.b"].numpy())
    np.testing.assert_array_equal(array.read_chunk(1), data.acts["a.b"][32:64].numpy())
    assert array.read_chunk(1).flags.writeable


def test_rows_into_a_buffer_whole_and_checked_first_then_in_part(unit):
    folder, files, data = unit
    array = _open(folder, files)
    buffer = page_aligned(size_for_any_offset(files["act/a.b/c/0/0"].size))
    for _ in range(2):
        rows = array.read_rows(1, 5, 9, buffer)
        assert np.shares_memory(rows, buffer)
        np.testing.assert_array_equal(rows, data.acts["a.b"][37:41].numpy())
    file = folder / "act/a.b/c/1/0"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"\0")
    array.read_rows(1, 5, 9, buffer)  # has been checked by this process
    array = _open(folder, files)
    with pytest.raises(TornData, match=f"{file} is damaged"):
        array.read_rows(1, 5, 9, buffer)
    file.write_bytes(content)
    array.read_rows(1, 5, 9, buffer)
    file.unlink()
    with pytest.raises(TornData, match=f"{file} is missing"):
        array.read_rows(1, 5, 9, buffer)


def test_other_chunks_than_asked_for_are_read_by_zarr_python(unit):
    folder, files, data = unit
    array = _open(folder, files, chunk_rows=40)
    assert not array.direct
    assert array.files(0, 40) == [f"act/a.b/c/{index}/0" for index in range(2)]
    np.testing.assert_array_equal(array.read_chunk(1), data.acts["a.b"][40:80].numpy())
    assert array.read_chunk(2).shape == (16, 6)
    np.testing.assert_array_equal(array.read(), data.acts["a.b"].numpy())


def test_a_shard_is_checked_before_any_row_of_it_is_decoded(tmp_path):
    attrs = attributes()
    begin_store(tmp_path, attrs)
    record = commit_foreign_unit(
        tmp_path,
        attrs,
        0,
        fill_value=-1,
        chunks=lambda array: (8, *array.shape[1:]),
        shards=lambda array: (64, *array.shape[1:]),
    )
    folder = StorePaths(tmp_path).attempt(record.attempt)
    shard = folder / "act/a.b/c/0/0"
    content = bytearray(shard.read_bytes())
    content[-30] ^= 1  # far from the rows that are read
    shard.write_bytes(content)
    array = _open(folder, record.files)
    assert array.files(0, 32) == ["act/a.b/c/0/0"]
    with pytest.raises(TornData, match=str(shard)):
        array.read_chunk(0)
    assert len(array.read_chunk(2)) == 32


@pytest.mark.parametrize("group", ["zarr.json", "act/zarr.json", "act/a.b/zarr.json"])
def test_metadata_of_array_and_groups_are_checked(unit, group):
    folder, files, _ = unit
    content = (folder / group).read_text()
    (folder / group).write_text(content.replace("}", "} ", 1)[: len(content)])
    with pytest.raises(TornData, match=f"{folder / group} is damaged"):
        _open(folder, files)
    (folder / group).unlink()
    with pytest.raises(TornData, match=f"{folder / group} is missing"):
        _open(folder, files)
    del files[group]
    with pytest.raises(TornData, match=f"{folder / group} is not in the commit record"):
        _open(folder, files)


def test_an_array_of_another_shape_or_dtype_is_refused(unit):
    folder, files, _ = unit
    with pytest.raises(TornData, match=r"describes float32 \(96, 6\); .* promise float32 \(96, 7\)"):
        _open(folder, files, shape=(96, 7))
    with pytest.raises(TornData, match="promise float16"):
        _open(folder, files, dtype=np.dtype("<f2"))


def test_metadata_that_zarr_python_cannot_read_is_named(unit):
    folder, _, _ = unit
    path = folder / "act/a.b/zarr.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "codecs": [{"name": "no-such-codec"}]}))
    with pytest.raises(TornData, match=r"`codecs` must be of transpose, bytes, .*; got 'no-such-codec'"):
        _open(folder, record_files(folder))


def test_a_record_of_chunks_of_another_size_is_refused(unit):
    """Its file is whole and as promised, but it does not hold as many rows as a chunk of the array."""
    folder, _, _ = unit
    file = folder / "act/a.b/c/1/0"
    short = file.read_bytes()[: 31 * 6 * 4]
    file.write_bytes(short + crc32c(short).to_bytes(4, "little"))
    array = _open(folder, record_files(folder))
    for read in (lambda: array.read_chunk(1), lambda: array.read_rows(1, 0, 32, page_aligned(5000))):
        with pytest.raises(TornData, match=rf"{file} has 748 bytes in its unit's commit record; a chunk has 772"):
            read()
    assert len(array.read_chunk(0)) == 32


def test_ids_of_a_unit_are_one_file_and_those_of_earlier_stores_are_read_as_before(tmp_path):
    attrs = attributes()
    record = write_attempt(tmp_path, attrs, 0, "train", unit_data(attrs, 0))
    folder = StorePaths(tmp_path).attempt(record.attempt)
    ids = unit_data(attrs, 0).rows["context_id"].numpy()
    values = {"name": "context_id", "dtype": np.dtype("<i8"), "shape": (96,)}
    array = _open(folder, record.files, **values)
    assert array.direct
    assert array.files() == ["context_id/c/0"]
    np.testing.assert_array_equal(array.read(), ids)
    shutil.rmtree(folder / "context_id")
    stored = zarr.open_group(folder, mode="r+").create_array(
        "context_id", shape=(96,), chunks=(32,), dtype="<i8", compressors=(zarr.codecs.Crc32cCodec(),), fill_value=-1
    )
    stored[...] = ids
    array = _open(folder, record_files(folder), **values)
    assert array.direct
    assert array.files() == ["context_id/c/0", "context_id/c/1", "context_id/c/2"]
    np.testing.assert_array_equal(array.read(), ids)
