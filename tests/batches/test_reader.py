"""Batches of a real store: the same for any number of data ranks, and when resumed."""

import math

import pytest
import torch

from distsae.batches import BatchReader, StreamOrder
from distsae.errors import TornData, WrongInput
from distsae.store import Store

HOOK, BATCH = "blocks.0.resid_post", 640


@pytest.fixture
def store(tiny_store):
    return Store.open(tiny_store)


@pytest.fixture
def make_reader(store):
    readers = []

    def make(rank=0, ranks=1, seed=3, store=store):
        readers.append(BatchReader(store, HOOK, BATCH, seed, rank, ranks))
        return readers[-1]

    yield make
    for reader in readers:
        reader.close()


def _by_the_order(store, step, seed=3):
    """A global batch, row by row, from the whole store in memory."""
    chunks = [store.read_chunk(HOOK, chunk).float() for chunk in store.chunks("train")]
    order = StreamOrder([len(chunk) for chunk in chunks], BATCH, seed)
    rows = [chunks[s.chunk][s.start : s.stop] for stream in range(64) for s in order.slices(step, stream)]
    return torch.cat(rows) * (math.sqrt(32) / store.statistics(HOOK).mean_norm)


def test_batches_are_the_rows_that_the_order_names(store, make_reader):
    alone = make_reader()
    for step in (0, 1, 2, alone.order.steps_per_epoch, 5 * alone.order.steps_per_epoch + 3):
        batch = alone.batch(step).x
        assert batch.dtype == torch.float32
        assert torch.equal(batch, _by_the_order(store, step))


@pytest.mark.parametrize("ranks", [2, 4, 64])
def test_any_number_of_data_ranks_reads_the_same_global_batch(make_reader, ranks):
    alone, parts = make_reader(), [make_reader(rank, ranks) for rank in range(ranks)]
    for step in (0, 1, 7):
        expected = alone.batch(step).x
        pieces = [part.batch(step).x for part in parts]
        assert all(piece.shape == (BATCH // ranks, 32) for piece in pieces)
        assert torch.equal(torch.cat(pieces), expected)


@pytest.mark.parametrize("first", [1, 6, 13, 14, 30])
def test_resumed_at_any_step(make_reader, first):
    walked = make_reader()
    for step in range(first):
        walked.batch(step)
    resumed = make_reader()
    for step in range(first, first + 3):
        assert torch.equal(resumed.batch(step).x, walked.batch(step).x)


def test_batches_have_memory_of_their_own(make_reader):
    reader = make_reader()
    first = reader.batch(0).x
    before = first.clone()
    reader.batch(1)
    first.add_(1)
    assert torch.equal(reader.batch(0).x, before)


def test_a_part_of_a_batch_may_be_kept(store, make_reader):
    """The memory of batches is used again, but not while a part of it is referenced."""
    reader = make_reader()
    kept = [reader.batch(step).x[5:9] for step in range(12)]
    for step, part in enumerate(kept):
        assert torch.equal(part, _by_the_order(store, step)[5:9])


def test_memory_is_that_of_the_rows_and_three_batches(make_reader):
    reader = make_reader()
    assert reader.memory_bytes(gpu=True) == reader._rows.memory_bytes
    assert reader.memory_bytes(gpu=False) == reader._rows.memory_bytes + 3 * BATCH * 32 * 4
    assert len({reader.batch(step).x.data_ptr() for step in range(20)}) <= 3


def test_rows_have_mean_norm_root_d_in(store, make_reader):
    reader = make_reader()
    norms = torch.cat([reader.batch(step).x for step in range(reader.order.steps_per_epoch)]).norm(dim=1)
    assert norms.mean().item() == pytest.approx(math.sqrt(32), rel=0.01)


def test_wrong_input_is_named(store):
    with pytest.raises(WrongInput, match=r"`mesh.data` \(=3\) must divide 64"):
        BatchReader(store, HOOK, BATCH, 0, 0, 3)
    with pytest.raises(WrongInput, match=r"got blocks\.0\.resid_post, blocks\.1\.resid_post"):
        BatchReader(store, "nope", BATCH, 0, 0, 1)


def _read_an_epoch(reader):
    for step in range(reader.order.steps_per_epoch):
        reader.batch(step)


def test_a_damaged_chunk_reaches_the_reader(tiny_store, tmp_path, make_reader):
    """It is read in another thread; the error must not stay there."""
    import shutil

    shutil.copytree(tiny_store, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    folder = store.path / "data" / store.units[0].attempt
    for chunk in store.chunks("train"):
        if chunk.unit == 0:
            file = folder / store.chunk_file(HOOK, chunk)
            content = bytearray(file.read_bytes())
            content[10] ^= 1
            file.write_bytes(content)
    broken = make_reader(store=store)
    with pytest.raises(TornData, match="unit-000000"):
        _read_an_epoch(broken)
