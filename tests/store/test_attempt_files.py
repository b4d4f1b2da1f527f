import errno
import os

import numpy as np
import pytest
import zarr
import zarr.codecs

from distsae.errors import TornData
from distsae.store.attempt_files import (
    array_has_crc,
    check_file,
    ends_with_crc,
    fill_from,
    read_chunk_file,
    read_part,
    record_files,
)
from distsae.store.crc32c import crc32c
from distsae.store.records import FileChecksum


@pytest.fixture
def folder(tmp_path):
    group = zarr.open_group(tmp_path / "a", mode="w", zarr_format=3)
    group.create_array("zstd", shape=(64,), dtype="<i4", fill_value=-1)[...] = range(64)
    own = group.create_array(
        "own", shape=(64,), dtype="<i4", chunks=(32,), compressors=(zarr.codecs.Crc32cCodec(),), fill_value=-1
    )
    own[...] = range(64)
    return tmp_path / "a"


def test_the_record_has_the_checksum_of_payload_or_file_as_the_codecs_require(folder):
    files = record_files(folder)
    assert set(files) == {"zarr.json", "zstd/zarr.json", "zstd/c/0", "own/zarr.json", "own/c/0", "own/c/1"}
    for name, (size, checksum) in files.items():
        content = (folder / name).read_bytes()
        assert size == len(content)
        assert checksum == crc32c(content[:-4] if name.startswith("own/c") else content)


def test_a_chunk_that_reads_back_differently_is_not_recorded(folder):
    content = (folder / "own/c/1").read_bytes()
    (folder / "own/c/1").write_bytes(b"\xff" + content[1:])
    with pytest.raises(TornData, match="own/c/1 was just written and reads back differently"):
        record_files(folder)


def test_a_file_ends_with_its_crc_if_the_chunks_of_its_array_do():
    arrays = {"act/a": True, "act/a.b": False, "ids": True}
    assert ends_with_crc("act/a/c/0/0", arrays) is True
    assert ends_with_crc("act/a.b/c/0/0", arrays) is False
    assert ends_with_crc("act/a/zarr.json", arrays) is False
    assert ends_with_crc("else/c/0", arrays) is None
    assert array_has_crc({"codecs": [{"name": "bytes"}, {"name": "crc32c"}]})
    assert not array_has_crc({"codecs": [{"name": "crc32c"}, {"name": "zstd"}]})


@pytest.mark.parametrize("name", ["zstd/c/0", "own/c/0", "own/zarr.json"])
@pytest.mark.parametrize("known", [True, False])
def test_files_are_compared_with_their_record(folder, name, known):
    files = record_files(folder)
    trailing = name.startswith("own/c") if known else None
    content = (folder / name).read_bytes()
    check_file(folder / name, files[name], trailing)
    for wrong in (content[:-1], content + b"\0", content[:-1] + bytes([content[-1] ^ 1]), b"\x01" + content[1:], b""):
        (folder / name).write_bytes(wrong)
        with pytest.raises(TornData, match=f"{folder / name} is damaged"):
            check_file(folder / name, files[name], trailing)
    (folder / name).unlink()
    with pytest.raises(TornData, match="is missing"):
        check_file(folder / name, files[name], trailing)


def test_a_valid_chunk_under_the_wrong_name_is_found(folder):
    files = record_files(folder)
    assert read_chunk_file(folder / "own/c/0", files["own/c/0"]).view("<i4").tolist() == list(range(32))
    (folder / "own/c/0").write_bytes((folder / "own/c/1").read_bytes())
    with pytest.raises(TornData, match="own/c/0 is damaged"):
        read_chunk_file(folder / "own/c/0", files["own/c/0"])
    with pytest.raises(TornData, match="own/c/0 is damaged"):
        check_file(folder / "own/c/0", FileChecksum(*files["own/c/0"]), True)


def test_into_a_reused_buffer(folder):
    files, buffer = record_files(folder), np.full(200, 7, np.uint8)
    for index in (0, 1, 0):
        payload = read_chunk_file(folder / f"own/c/{index}", files[f"own/c/{index}"], buffer)
        assert np.shares_memory(payload, buffer)
        assert payload.view("<i4").tolist() == list(range(32 * index, 32 * index + 32))
    assert (buffer[132:] == 7).all()
    read_part(folder / "own/c/1", files["own/c/1"], 8, buffer[:12])
    assert buffer[:12].view("<i4").tolist() == [34, 35, 36]
    with pytest.raises(TornData, match="has become shorter"):
        read_part(folder / "own/c/1", files["own/c/1"], 128, buffer[:12])
    (folder / "own/c/1").unlink()
    with pytest.raises(TornData, match="own/c/1 is missing"):
        read_part(folder / "own/c/1", files["own/c/1"], 8, buffer[:12])


@pytest.mark.parametrize("most", [1, 7, 50, 1000])
def test_reads_that_return_less_than_asked_for(folder, monkeypatch, most):
    files, preadv = record_files(folder), os.preadv

    def short(descriptor, buffers, offset):
        return preadv(descriptor, [buffers[0][:most]], offset)

    monkeypatch.setattr(os, "preadv", short)
    assert read_chunk_file(folder / "own/c/1", files["own/c/1"]).view("<i4").tolist() == list(range(32, 64))
    (folder / "own/c/1").write_bytes((folder / "own/c/1").read_bytes() + b"x")
    with pytest.raises(TornData, match="more bytes where its commit record promises 132"):
        read_chunk_file(folder / "own/c/1", files["own/c/1"])


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_files_are_read_where_several_areas_cannot_be_read_at_once(tmp_path, monkeypatch, number):
    content = bytes(range(256)) * 10_000
    (tmp_path / "a").write_bytes(content)
    found = bytearray(len(content) + 5)

    def missing(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.preadv", missing)
    whole = memoryview(found)
    with (tmp_path / "a").open("rb") as file:
        parts = [whole[:3], whole[3:1_500_000], whole[1_500_000:]]
        assert fill_from(file.fileno(), parts, 7) == len(content) - 7
    assert found[: len(content) - 7] == content[7:]


def test_other_faults_of_reading_are_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"abc")

    def broken(*args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.preadv", broken)
    with (tmp_path / "a").open("rb") as file, pytest.raises(OSError, match="Input/output"):
        fill_from(file.fileno(), [memoryview(bytearray(3))], 0)
