"""Rows of batches as they are stored, in blocks of memory that are used again."""

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


def _block_bytes(one, order):
    return one._steps * one.batch_rows * one.read(0).shape[1] * one.read(0).dtype.itemsize


def test_memory_is_that_of_two_blocks_and_scratch(store, reader):
    one, order = reader(store)
    assert one.memory_bytes == 2 * _block_bytes(one, order) + 2 * 2**20
    places = {one.read(step).data_ptr() for step in range(3 * order.steps_per_epoch)}
    assert len(places) == 2 * one._steps
    assert not one._opener._buffers  # no chunk was ever in memory


@pytest.mark.parametrize(("roomy", "streams", "most"), [(10**6, 64, 128), (100, 64, 100), (0, 64, 80), (0, 1, 2)])
def test_chunks_in_memory_are_bounded_as_stated(reader, tmp_path, monkeypatch, roomy, streams, most):
    store = write_foreign_store(tmp_path / "s", _attributes(), fill_value=-1)
    size = store.buffer_bytes(HOOK)
    monkeypatch.setattr("distsae.batches.rows._ROOMY_BYTES", roomy * size)
    one, order = reader(store, range(streams))
    assert one.memory_bytes == 2 * _block_bytes(one, order) + min(streams, 2) * 2**20 + most * size
    for step in range(2 * order.steps_per_epoch):
        assert torch.equal(one.read(step), _expected(store, order, step, range(streams)))
    one.close()
    assert streams <= len(one._opener._buffers) <= most


def _open_files(store):
    """How many files of this store are open; what else is open in the process may come and go."""
    return sum(store.path.resolve() in file.resolve().parents for file in Path("/proc/self/fd").iterdir())


def test_files_open_at_a_time_are_bounded(store, reader):
    assert _open_files(store) == 0
    one, order = reader(store)
    for step in range(0, 2 * order.steps_per_epoch, 3):  # each begins anew
        one.read(step)
        one.wait_until_ahead()
        assert 64 <= _open_files(store) <= 128
    one.close()
    assert _open_files(store) == 0


def test_files_are_checked_on_the_first_pass(store, reader, monkeypatch):
    checked, check = [], ChunkFile.check
    monkeypatch.setattr(ChunkFile, "check", lambda self, scratch: (checked.append(self._file), check(self, scratch)))
    monkeypatch.setattr("distsae.batches.rows._FILLERS", 1)  # two may come to a chunk at the same time
    one, order = reader(store, batch=64)
    for step in range(order.steps_per_epoch):
        one.read(step)
    assert len(checked) == len(set(checked))  # a chunk that several streams share is checked once
    for step in range(order.steps_per_epoch, 3 * order.steps_per_epoch):
        one.read(step)
    assert len(checked) == len(set(checked)) == len(store.chunks())
    another, _ = reader(store)
    another.read(0)
    assert len(checked) > len(store.chunks())  # each reader checks for itself


def test_rows_are_seen_only_after_their_file_was_checked(store, reader, monkeypatch):
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
    one, order = reader(store)
    for step in range(order.steps_per_epoch):
        one.read(step)
    assert checked


def test_the_next_batches_are_there_before_they_are_needed(store, reader, monkeypatch):
    """While the files give nothing more, all batches of this block and of the next can be read."""
    one, _ = reader(store)
    expected = [one.read(step).clone() for step in range(2 * one._steps)]
    one.read(0)
    one.wait_until_ahead()
    gate, fill = threading.Event(), ChunkFile.fill
    monkeypatch.setattr(ChunkFile, "fill", lambda *rest: gate.wait(120) and fill(*rest))
    for step in range(2 * one._steps):
        assert torch.equal(one.read(step), expected[step])
    gate.set()


def test_other_codecs_are_read_the_same(reader, tmp_path):
    attrs = _attributes(dtype="fp16")
    ours, theirs = write_store(tmp_path / "a", attrs), write_foreign_store(tmp_path / "b", attrs, fill_value=-1)
    (one, order), (other, _) = reader(ours), reader(theirs)
    for step in range(order.steps_per_epoch + 2):
        assert torch.equal(one.read(step), other.read(step))


def _read_epochs(reader, order, epochs):
    for step in range(epochs * order.steps_per_epoch):
        reader.read(step)


def _damage(store, chunk):
    """Flips a bit of a chunk; returns its file and what was in it."""
    file = store.path / "data" / store.units[chunk.unit].attempt / store.chunk_file(HOOK, chunk)
    whole = file.read_bytes()
    file.write_bytes(whole[:50] + bytes([whole[50] ^ 4]) + whole[51:])
    return file, whole


def test_damage_is_named_at_its_step_and_stays(reader, tmp_path):
    store = write_store(tmp_path / "s", _attributes())
    one, order = reader(store)
    number = order.slices(3, 20)[0].chunk
    first = next(visit.step for visit in _first_visits(order) if visit.chunk == number)
    file, whole = _damage(store, store.chunks()[number])
    for _ in range(2):
        for step in range(first):
            assert torch.equal(one.read(step), _expected_but(store, order, step, file, whole))
        for _ in range(2):
            with pytest.raises(TornData, match=str(file)):
                one.read(first)
    file.write_bytes(whole)
    for step in range(order.steps_per_epoch):
        assert torch.equal(one.read(step), _expected(store, order, step))
    file.write_bytes(whole[:60])  # cut off after it has been checked
    with pytest.raises(TornData, match=f"{file} is damaged"):
        _read_epochs(one, order, 3)


def test_the_middle_of_a_block_is_where_the_error_is_raised(reader, tmp_path):
    store = write_store(tmp_path / "s", _attributes(contexts=500, unit_rows=2000))
    one, order = reader(store)
    assert one._steps > 3
    where = next(visit for visit in _first_visits(order) if 1 < visit.step < one._steps)
    file, whole = _damage(store, store.chunks()[where.chunk])
    for step in range(where.step):
        assert torch.equal(one.read(step), _expected_but(store, order, step, file, whole))
    with pytest.raises(TornData, match=str(file)):
        one.read(where.step)


def _first_visits(order):
    """Of each chunk that is read in the first epoch, its first visit."""
    first = {}
    for visit in takewhile(lambda visit: visit.step < order.steps_per_epoch, order.visits(0, range(64))):
        first.setdefault(visit.chunk, visit)
    return first.values()


def _expected_but(store, order, step, file, whole):
    """The batch as it is without the damage of `file`."""
    damaged = file.read_bytes()
    file.write_bytes(whole)
    expected = _expected(store, order, step)
    file.write_bytes(damaged)
    return expected
