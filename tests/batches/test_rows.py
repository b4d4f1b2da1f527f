"""Rows of batches as they are stored, in buffers that are reused."""

import threading
from itertools import takewhile
from pathlib import Path

import pytest
import torch

from distsae.batches import StreamOrder
from distsae.batches.rows import RowReader
from distsae.errors import TornData
from distsae.store.open_chunk import ChunkFile
from tests.store.foreign import write_foreign_store
from tests.store.synthetic import attributes, write_store

HOOK = "a.b"


@pytest.fixture(scope="module", params=["fp16", "bf16", "fp32"])
def store(request, tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("rows") / "s", _attributes(dtype=request.param))


def _attributes(**changes):
    return attributes(**{"contexts": 100, "heldout_contexts": 4, "unit_rows": 300, **changes})


@pytest.fixture
def make_reader():
    readers = []

    def make(store, streams=range(64), batch=192, **options):
        order = StreamOrder([chunk.rows for chunk in store.chunks()], batch, seed=1)
        readers.append(RowReader(store, HOOK, order, streams, **options))
        return readers[-1], order

    yield make
    for reader in readers:
        reader.close()


def _expected(store, order, step, streams=range(64)):
    parts = [part for stream in streams for part in order.slices(step, stream)]
    chunks = store.chunks()
    return torch.cat([store.read_chunk(HOOK, chunks[part.chunk])[part.start : part.stop] for part in parts])


def test_bit_equal_to_the_stored_rows_over_epochs(store, make_reader):
    reader, order = make_reader(store)
    for step in [*range(2 * order.steps_per_epoch + 2), 5, 6, 0, 3 * order.steps_per_epoch - 1]:
        rows = reader.read(step)
        assert rows.dtype == store.read_chunk(HOOK, store.chunks()[0]).dtype
        assert torch.equal(rows, _expected(store, order, step)), step


@pytest.mark.parametrize("batch", [64, 768], ids=["a row a stream", "all rows at once"])
def test_batches_of_any_size(store, make_reader, batch):
    reader, order = make_reader(store, batch=batch)
    for step in range(3):
        assert torch.equal(reader.read(step), _expected(store, order, step))


def test_a_part_of_the_streams(store, make_reader):
    streams = range(32, 48)
    reader, order = make_reader(store, streams)
    for step in range(order.steps_per_epoch + 1):
        assert torch.equal(reader.read(step), _expected(store, order, step, streams))


def _buffer_bytes(reader):
    return reader._steps * reader.batch_rows * reader.read(0).shape[1] * reader.read(0).dtype.itemsize


def test_memory_is_that_of_two_buffers_and_scratch(store, make_reader):
    reader, order = make_reader(store)
    assert reader.memory_bytes == 2 * _buffer_bytes(reader) + 2 * 2**20
    addresses = {reader.read(step).data_ptr() for step in range(3 * order.steps_per_epoch)}
    assert len(addresses) == 2 * reader._steps
    assert not reader._opener._buffers  # no chunk was ever in memory


@pytest.mark.parametrize(("fit", "streams", "most"), [(10**6, 64, 128), (100, 64, 100), (0, 64, 80), (0, 1, 2)])
def test_chunks_in_memory_are_bounded_as_stated(make_reader, tmp_path, fit, streams, most):
    store = write_foreign_store(tmp_path / "s", _attributes(), fill_value=-1)
    size = store.buffer_bytes(HOOK)
    reader, order = make_reader(store, range(streams), chunk_bytes=fit * size)
    assert reader.memory_bytes == 2 * _buffer_bytes(reader) + min(streams, 2) * 2**20 + most * size
    for step in range(2 * order.steps_per_epoch):
        assert torch.equal(reader.read(step), _expected(store, order, step, range(streams)))
    reader.close()
    assert streams <= len(reader._opener._buffers) <= most


def _open_files(store):
    """Returns how many files of this store are open in this process."""
    return sum(store.path.resolve() in file.resolve().parents for file in Path("/proc/self/fd").iterdir())


def test_files_open_at_a_time_are_bounded(store, make_reader):
    assert _open_files(store) == 0
    reader, order = make_reader(store)
    for step in range(0, 2 * order.steps_per_epoch, 3):  # each starts anew
        reader.read(step)
        reader.wait_until_ahead()
        assert 64 <= _open_files(store) <= 128
    reader.close()
    assert _open_files(store) == 0


def test_files_are_checked_on_the_first_pass(store, make_reader, monkeypatch):
    checked, check = [], ChunkFile.check
    monkeypatch.setattr(ChunkFile, "check", lambda self, scratch: (checked.append(self._file), check(self, scratch)))
    reader, order = make_reader(store, batch=64, most_fillers=1)  # two may reach a chunk at the same time
    for step in range(order.steps_per_epoch):
        reader.read(step)
    assert len(checked) == len(set(checked))  # a chunk that several streams share is checked once
    for step in range(order.steps_per_epoch, 3 * order.steps_per_epoch):
        reader.read(step)
    assert len(checked) == len(set(checked)) == len(store.chunks())
    another, _ = make_reader(store)
    another.read(0)
    assert len(checked) > len(store.chunks())  # each reader checks for itself


def test_rows_are_read_only_after_their_file_was_checked(store, make_reader, monkeypatch):
    checked = set()
    check = ChunkFile.check
    fill = ChunkFile.fill

    def checking(self, scratch):
        check(self, scratch)
        checked.add(self._file)

    def filling(self, *rest):
        assert self._file in checked
        fill(self, *rest)

    monkeypatch.setattr(ChunkFile, "check", checking)
    monkeypatch.setattr(ChunkFile, "fill", filling)
    reader, order = make_reader(store)
    for step in range(order.steps_per_epoch):
        reader.read(step)
    assert checked


def test_the_next_batches_are_there_before_they_are_needed(store, make_reader, monkeypatch):
    """Even if nothing more is read from the files, all batches of this buffer and of the next are available."""
    reader, _ = make_reader(store)
    expected = [reader.read(step).clone() for step in range(2 * reader._steps)]
    reader.read(0)
    reader.wait_until_ahead()
    gate, fill = threading.Event(), ChunkFile.fill
    monkeypatch.setattr(ChunkFile, "fill", lambda *rest: gate.wait(120) and fill(*rest))
    for step in range(2 * reader._steps):
        assert torch.equal(reader.read(step), expected[step])
    gate.set()


def test_other_codecs_are_read_the_same(make_reader, tmp_path):
    attrs = _attributes(dtype="fp16")
    ours, theirs = write_store(tmp_path / "a", attrs), write_foreign_store(tmp_path / "b", attrs, fill_value=-1)
    (reader, order), (other, _) = make_reader(ours), make_reader(theirs)
    for step in range(order.steps_per_epoch + 2):
        assert torch.equal(reader.read(step), other.read(step))


def _read_epochs(reader, order, epochs):
    for step in range(epochs * order.steps_per_epoch):
        reader.read(step)


def _damage(store, chunk):
    """Flips a bit of a chunk; returns its file and what was in it."""
    file = store.path / "data" / store.units[chunk.unit].attempt / store.chunk_file(HOOK, chunk)
    whole = file.read_bytes()
    file.write_bytes(whole[:50] + bytes([whole[50] ^ 4]) + whole[51:])
    return file, whole


def test_damage_is_named_at_its_step_and_stays(make_reader, tmp_path):
    store = write_store(tmp_path / "s", _attributes())
    reader, order = make_reader(store)
    number = order.slices(3, 20)[0].chunk
    first = next(visit.step for visit in _first_visits(order) if visit.chunk == number)
    file, whole = _damage(store, store.chunks()[number])
    for _ in range(2):
        for step in range(first):
            assert torch.equal(reader.read(step), _expected_but(store, order, step, file, whole))
        for _ in range(2):
            with pytest.raises(TornData, match=str(file)):
                reader.read(first)
    file.write_bytes(whole)
    for step in range(order.steps_per_epoch):
        assert torch.equal(reader.read(step), _expected(store, order, step))
    file.write_bytes(whole[:60])  # cut off after it has been checked
    with pytest.raises(TornData, match=f"{file} is damaged"):
        _read_epochs(reader, order, 3)


def test_an_error_in_the_middle_of_a_buffer_is_raised_at_its_step(make_reader, tmp_path):
    store = write_store(tmp_path / "s", _attributes(contexts=500, unit_rows=2000))
    reader, order = make_reader(store)
    assert reader._steps > 3
    where = next(visit for visit in _first_visits(order) if 1 < visit.step < reader._steps)
    file, whole = _damage(store, store.chunks()[where.chunk])
    for step in range(where.step):
        assert torch.equal(reader.read(step), _expected_but(store, order, step, file, whole))
    with pytest.raises(TornData, match=str(file)):
        reader.read(where.step)


def _first_visits(order):
    """Returns the first visit of each chunk that is read in the first epoch."""
    first = {}
    for visit in takewhile(lambda visit: visit.step < order.steps_per_epoch, order.visits(0, range(64))):
        first.setdefault(visit.chunk, visit)
    return first.values()


def _expected_but(store, order, step, file, whole):
    """Returns the batch as it is without the damage to `file`."""
    damaged = file.read_bytes()
    file.write_bytes(whole)
    expected = _expected(store, order, step)
    file.write_bytes(damaged)
    return expected
