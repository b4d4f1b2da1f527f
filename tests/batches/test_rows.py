"""Rows of batches as they are stored, from buffers that are used again."""

import time

import pytest
import torch

from distsae.batches import StreamOrder
from distsae.batches.rows import RowReader
from distsae.errors import TornData
from tests.store.foreign import write_foreign_store
from tests.store.synthetic import attributes, write_store

HOOK = "a.b"


@pytest.fixture(scope="module", params=["fp16", "bf16", "fp32"])
def store(request, tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("rows") / "s", _attributes(dtype=request.param))


def _attributes(**changes):
    return attributes(**{"contexts": 100, "heldout_contexts": 4, "unit_rows": 300, **changes})


@pytest.fixture
def reader():
    made = []

    def make(store, streams=range(64), batch=192):
        order = StreamOrder([chunk.rows for chunk in store.chunks()], batch, seed=1)
        made.append(RowReader(store, HOOK, order, streams))
        return made[-1], order

    yield make
    for one in made:
        one.close()


def _expected(store, order, step, streams=range(64)):
    parts = [part for stream in streams for part in order.slices(step, stream)]
    chunks = store.chunks()
    return torch.cat([store.read_chunk(HOOK, chunks[part.chunk])[part.start : part.stop] for part in parts])


def test_bit_equal_to_the_stored_rows_over_epochs(store, reader):
    one, order = reader(store)
    for step in [*range(2 * order.steps_per_epoch + 2), 5, 6, 0, 3 * order.steps_per_epoch - 1]:
        rows = one.read(step)
        assert rows.dtype == store.read_chunk(HOOK, store.chunks()[0]).dtype
        assert torch.equal(rows, _expected(store, order, step)), step


@pytest.mark.parametrize("batch", [64, 768], ids=["a row a stream", "all rows at once"])
def test_batches_of_any_size(store, reader, batch):
    one, order = reader(store, batch=batch)
    for step in range(3):
        assert torch.equal(one.read(step), _expected(store, order, step))


def test_a_part_of_the_streams(store, reader):
    streams = range(32, 48)
    one, order = reader(store, streams)
    for step in range(order.steps_per_epoch + 1):
        assert torch.equal(one.read(step), _expected(store, order, step, streams))


def test_memory_is_bounded_as_stated(store, reader, monkeypatch):
    size = store.buffer_bytes(HOOK)
    one, _ = reader(store)
    batch = one.read(0).nbytes
    assert one.memory_bytes == 128 * size + batch  # two chunks for each stream
    monkeypatch.setattr("distsae.batches.rows._ROOMY_BYTES", 100 * size)
    two, _ = reader(store)
    assert two.memory_bytes == 100 * size + batch
    monkeypatch.setattr("distsae.batches.rows._ROOMY_BYTES", 0)
    three, order = reader(store)
    assert three.memory_bytes == 80 * size + batch
    seen = _buffers_of(three)
    for step in range(2 * order.steps_per_epoch):
        assert torch.equal(three.read(step), _expected(store, order, step))
    assert len(seen) <= 80
    four, _ = reader(store, range(3, 4))
    assert four.memory_bytes == 2 * size + batch // 64


def _buffers_of(reader):
    seen, load = set(), reader._ahead._load

    def watched(visit, buffer):
        seen.add(buffer.ctypes.data)
        return load(visit, buffer)

    reader._ahead._load = watched
    return seen


def test_chunks_are_checked_on_the_first_pass_and_read_in_part_afterwards(store, reader, monkeypatch):
    import distsae.store.stored_array as stored_array

    whole, parts, read_whole, read_part = [], [], stored_array.read_chunk_file, stored_array.read_part
    monkeypatch.setattr(
        stored_array, "read_chunk_file", lambda file, *rest: (whole.append(file), read_whole(file, *rest))[1]
    )
    monkeypatch.setattr(
        stored_array, "read_part", lambda file, *rest: (parts.append(len(rest[-1])), read_part(file, *rest))[1]
    )
    monkeypatch.setattr("distsae.batches.rows._THREADS", 1)  # two may come to a chunk at the same time
    store.forget_checks()
    one, order = reader(store, batch=64)
    for step in range(order.steps_per_epoch):
        one.read(step)
    assert len(whole) == len(set(whole))  # a chunk that several streams share is checked once
    first_pass = len(whole)
    for step in range(order.steps_per_epoch, 3 * order.steps_per_epoch):
        one.read(step)
    assert len(whole) - first_pass <= 1  # but for what the tail rule left out of the first epoch
    stream = store.rows // 64 * one.read(0).nbytes // 64
    assert max(parts) == stream < 32 * one.read(0).nbytes // 64  # not all of a chunk
    store.forget_checks()
    one.read(0)
    assert len(whole) >= first_pass + 1


def test_the_next_chunks_are_there_before_they_are_needed(store, reader, monkeypatch):
    """Reads that take a while, and steps that take as long as all of their reads: only the first batch waits."""
    one, order = reader(store, batch=64)
    read_rows, waited, take = type(store).read_rows, [], one._ahead.take

    def slowly(self, *rest):
        time.sleep(0.001)
        return read_rows(self, *rest)

    def timed(stream):
        begun = time.perf_counter()
        loaded = take(stream)
        waited.append(time.perf_counter() - begun)
        return loaded

    monkeypatch.setattr(type(store), "read_rows", slowly)
    monkeypatch.setattr(one._ahead, "take", timed)
    one.read(0)
    begun = len(waited)
    for step in range(1, order.steps_per_epoch):
        time.sleep(0.02)
        one.read(step)
    assert len(waited) > begun
    assert sorted(waited[begun:])[len(waited[begun:]) // 2] < 0.001


def test_other_codecs_are_read_the_same(reader, tmp_path):
    attrs = _attributes(dtype="fp16")
    ours, theirs = write_store(tmp_path / "a", attrs), write_foreign_store(tmp_path / "b", attrs, fill_value=-1)
    (one, order), (other, _) = reader(ours), reader(theirs)
    for step in range(order.steps_per_epoch + 2):
        assert torch.equal(one.read(step), other.read(step))


def _read_epochs(reader, order, epochs):
    for step in range(epochs * order.steps_per_epoch):
        reader.read(step)


def test_damage_is_named_and_stays(reader, tmp_path):
    store = write_store(tmp_path / "s", _attributes())
    one, order = reader(store)
    chunk = store.chunks()[order.slices(3, 20)[0].chunk]
    file = store.path / "data" / store.units[chunk.unit].attempt / store.chunk_file(HOOK, chunk)
    whole = file.read_bytes()
    file.write_bytes(whole[:50] + bytes([whole[50] ^ 4]) + whole[51:])
    for _ in range(2):
        with pytest.raises(TornData, match=str(file)):
            _read_epochs(one, order, 1)
    file.write_bytes(whole)
    for step in range(order.steps_per_epoch):
        assert torch.equal(one.read(step), _expected(store, order, step))
    file.write_bytes(whole[:60])  # cut off after it has been checked
    with pytest.raises(TornData, match="has become shorter"):
        _read_epochs(one, order, 2)
