"""An open chunk: any of its rows to any memory, from its file or from a buffer; the error names a damaged file."""

import os

import google_crc32c
import numpy as np
import pytest

from distsae.errors import TornData
from distsae.store.open_chunk import ChunkFile, ChunkInMemory
from distsae.store.records import FileChecksum

ROWS, ROW_BYTES = 40, 12


@pytest.fixture
def rows():
    return np.random.default_rng(0).integers(0, 256, (ROWS, ROW_BYTES), dtype=np.uint8)


@pytest.fixture
def file(tmp_path, rows):
    path = tmp_path / "chunk"
    path.write_bytes(rows.tobytes() + google_crc32c.value(rows.tobytes()).to_bytes(4, "little"))
    return path


@pytest.fixture
def promised(rows):
    return FileChecksum(rows.nbytes + 4, google_crc32c.value(rows.tobytes()))


@pytest.fixture(params=["file", "memory"])
def chunk(request, rows, file, promised):
    if request.param == "file":
        chunk = ChunkFile(file, promised, ROW_BYTES)
    else:
        chunk = ChunkInMemory(rows[3:], 3, lambda: None)
    yield chunk
    chunk.close()


def test_rows_go_where_they_are_wanted(chunk, rows):
    for start, counts in ((3, [37]), (17, [1]), (39, [1]), (5, [2, 9, 1, 20])):
        targets = [np.zeros((count, ROW_BYTES), np.uint8) for count in counts]
        chunk.fill(start, [target.reshape(-1).data for target in targets])
        assert np.array_equal(np.concatenate(targets), rows[start : start + sum(counts)])


def test_memory_is_given_back_once_it_is_closed(rows):
    given = []
    chunk = ChunkInMemory(rows, 0, lambda: given.append(True))
    assert not given
    chunk.close()
    assert given == [True]


@pytest.mark.parametrize("scratch", [1, 7, 480, 481, 4096])
def test_a_whole_file_is_checked_in_pieces_of_any_size(file, promised, scratch):
    chunk = ChunkFile(file, promised, ROW_BYTES)
    chunk.check(np.empty(scratch, np.uint8))
    chunk.close()


@pytest.mark.parametrize("offset", [0, 200, ROWS * ROW_BYTES - 1, ROWS * ROW_BYTES, ROWS * ROW_BYTES + 3])
def test_a_flipped_bit_anywhere_is_found(file, promised, offset):
    content = bytearray(file.read_bytes())
    content[offset] ^= 16
    file.write_bytes(content)
    chunk = ChunkFile(file, promised, ROW_BYTES)
    with pytest.raises(TornData, match=f"{file} is damaged: its crc32c"):
        chunk.check(np.empty(100, np.uint8))
    chunk.close()


def test_another_file_with_a_fitting_trailer_is_found(file, promised, rows):
    other = rows[::-1].tobytes()
    file.write_bytes(other + google_crc32c.value(other).to_bytes(4, "little"))
    chunk = ChunkFile(file, promised, ROW_BYTES)
    with pytest.raises(TornData, match="is damaged: its crc32c"):
        chunk.check(np.empty(100, np.uint8))
    chunk.close()


def test_missing_and_of_another_size(file, promised):
    content = file.read_bytes()
    for size in (len(content) - 1, len(content) + 1):
        file.write_bytes(content.ljust(size, b"x")[:size])
        with pytest.raises(TornData, match=f"{file} is damaged: {size} bytes where its commit record promises 484"):
            ChunkFile(file, promised, ROW_BYTES)
    file.unlink()
    with pytest.raises(TornData, match=f"{file} is missing"):
        ChunkFile(file, promised, ROW_BYTES)


def test_cut_off_while_it_is_open(file, promised):
    chunk = ChunkFile(file, promised, ROW_BYTES)
    os.truncate(file, 300)
    chunk.fill(20, [memoryview(bytearray(60))])  # is still there
    for read in (lambda: chunk.fill(20, [memoryview(bytearray(61))]), lambda: chunk.check(np.empty(100, np.uint8))):
        with pytest.raises(TornData, match=f"{file} is damaged: it has become shorter"):
            read()
    chunk.close()
