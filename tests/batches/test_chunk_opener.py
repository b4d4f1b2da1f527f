"""Chunks from their files or from memory, as the store allows; a failure leaves nothing open."""

from pathlib import Path

import pytest
import torch

from distsae.batches.chunk_opener import ChunkOpener
from distsae.batches.stream_order import Visit
from distsae.errors import TornData
from distsae.store.open_chunk import ChunkFile, ChunkInMemory
from tests.store.foreign import write_foreign_store
from tests.store.synthetic import write_store

HOOK = "a.b"


def _rows(chunk, start, count):
    rows = torch.empty(count, 6)
    chunk.fill(start, [rows.view(torch.uint8).numpy().reshape(-1).data])
    return rows


@pytest.mark.parametrize(("write", "kind"), [(write_store, ChunkFile), (write_foreign_store, ChunkInMemory)])
def test_the_rows_of_a_visit(tmp_path, write, kind):
    store = write(tmp_path / "s")
    opener = ChunkOpener(store, HOOK)
    for number, chunk in enumerate(store.chunks()):
        opened = opener.open(Visit(step=0, stream=0, start=2, stop=chunk.rows, chunk=number))
        assert isinstance(opened, kind)
        assert torch.equal(_rows(opened, 3, chunk.rows - 4), store.read_chunk(HOOK, chunk)[3:-1])
        opened.close()
    size = store.buffer_bytes(HOOK) if kind is ChunkInMemory else 0
    assert opener.memory_bytes(threads=2, most_open=5) == 2 * 2**20 + 5 * size


def test_memory_is_reused(tmp_path):
    opener = ChunkOpener(write_foreign_store(tmp_path / "s"), HOOK)
    visits = [Visit(step=0, stream=0, start=0, stop=5, chunk=number) for number in range(3)]
    two = [opener.open(visits[0]), opener.open(visits[1])]
    rows = [_rows(chunk, 0, 5) for chunk in two]
    two[0].close()
    opener.open(visits[2]).close()
    assert len(opener._buffers) == 1
    assert torch.equal(_rows(two[1], 0, 5), rows[1])


@pytest.mark.parametrize("write", [write_store, write_foreign_store])
def test_a_damaged_file_is_never_opened(tmp_path, write):
    store = write(tmp_path / "s")
    chunk = store.chunks()[1]
    file = store.path / "data" / store.units[chunk.unit].attempt / store.chunk_file(HOOK, chunk)
    whole = file.read_bytes()
    file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    opener, visit = ChunkOpener(store, HOOK), Visit(step=0, stream=0, start=0, stop=1, chunk=1)
    for _ in range(2):
        with pytest.raises(TornData, match=str(file)):
            opener.open(visit)
    assert file.resolve() not in [opened.resolve() for opened in Path("/proc/self/fd").iterdir()]
    file.write_bytes(whole)
    opener.open(visit).close()


def test_files_that_are_not_kept_open(tmp_path):
    store = write_store(tmp_path / "s")
    chunk = store.chunks()[1]
    file = store.path / "data" / store.units[chunk.unit].attempt / store.chunk_file(HOOK, chunk)
    opened = ChunkOpener(store, HOOK, keep_open=False).open(Visit(step=0, stream=0, start=0, stop=9, chunk=1))
    for start in (2, 0):
        assert file.resolve() not in [descriptor.resolve() for descriptor in Path("/proc/self/fd").iterdir()]
        assert torch.equal(_rows(opened, start, 5), store.read_chunk(HOOK, chunk)[start : start + 5])
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(TornData, match=f"{file} is damaged"):
        _rows(opened, 0, 5)
    file.unlink()
    with pytest.raises(TornData, match=f"{file} is missing"):
        _rows(opened, 0, 5)
    opened.close()
