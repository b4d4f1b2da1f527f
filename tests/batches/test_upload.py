"""Batches on a GPU are those of the CPU: read into page-locked memory, copied as they are stored, normalised there."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distsae.batches import BatchReader, Normalisation, left_out_rows
from distsae.batches.upload import Upload, upload_bytes
from distsae.store import Store
from tests.pretended_cuda import CUDA, LEDGER, OnCuda, pretended_cuda
from tests.store import synthetic

HOOK, BATCH, D_IN = "blocks.0.resid_post", 640, 32
NORMALISATIONS = ("none", "scale", "centre", "token")
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


@pytest.fixture(autouse=True)
def device():
    with pretended_cuda():
        LEDGER.clear()
        LEDGER.locked.clear()
        yield


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    excluding = synthetic.attributes(excluded_tokens=(3,))
    return {
        False: synthetic.write_store(folder / "plain"),
        True: synthetic.write_store(folder / "excluding", excluding),
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store in fp16, of which one row in 200 has a large norm."""
    rows = torch.randn(9000, D_IN, generator=torch.Generator().manual_seed(0)) + 0.1
    rows[::200] *= 30
    return Store.write(tmp_path_factory.mktemp("store"), rows.half(), hook=HOOK, unit_rows=3000, chunk_rows=512)


@pytest.fixture
def make_reader(store):
    readers = []

    def make(rank=0, ranks=1, name="token", max_norm=None, device=CUDA, store=store):
        readers.append(BatchReader(store, HOOK, BATCH, 3, rank, ranks, name, max_norm, device))
        return readers[-1]

    yield make
    for reader in readers:
        reader.close()


def _same(found, expected, exact):
    assert isinstance(found, OnCuda)
    if exact:
        torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=0, equal_nan=True)
    else:
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-6, atol=0, equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from(NORMALISATIONS),
    st.sampled_from(DTYPES),
    st.sampled_from([None, 1.0, 20.0]),
    st.booleans(),
    st.integers(1, 40),
)
def test_rows_are_those_of_the_cpu(stores, seed, name, dtype, max_norm, excluding, d_in):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(50, d_in, generator=generator) * 10 ** torch.randn(50, 1, generator=generator)
    rows[3], rows[7], rows[8, 0], rows[9, 0] = 0, 0, torch.nan, torch.inf
    rows[11] *= max_norm / float(rows[11].norm()) if max_norm else 1  # as near to the limit as rounding allows
    stored = rows.to(dtype)
    shift = torch.randn(d_in, generator=generator) if name == "centre" else None
    normalisation = Normalisation(1.0 if name in ("none", "token") else 0.37, shift, token=name == "token")
    expected = stored.to(torch.float32, copy=True)
    left_out = left_out_rows(expected, stores[excluding], max_norm)
    upload = Upload(CUDA, normalisation, stores[excluding], max_norm)
    batch = upload.hand_over(upload.batch(stored))
    _same(batch.x, normalisation.apply(expected), exact=name != "token")
    assert (batch.left_out is None) == (left_out is None)
    if left_out is not None:
        assert batch.left_out.is_cuda
        assert batch.left_out.tolist() == left_out.tolist()
    some = upload.hand_over(upload.batch(stored[10:13]))
    _same(some.x, batch.x[10:13].cpu(), exact=True)  # whatever rows are beside it


def test_a_batch_may_be_used_only_once_it_is_handed_over(stores):
    upload = Upload(CUDA, Normalisation(1.0, None), stores[False], None)
    batch = upload.batch(torch.ones(4, 3))
    with pytest.raises(RuntimeError, match="without `record_stream`"):
        batch.x + 1
    upload.hand_over(batch)
    assert float((batch.x + 1).sum()) == 24


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_batches_are_those_of_the_cpu_and_no_one_waits(store, make_reader, name):
    limit = store.norms(HOOK).limit(4)
    here, there = (
        make_reader(name=name, max_norm=limit, device=torch.device("cpu")),
        make_reader(name=name, max_norm=limit),
    )
    left_out = 0
    for step in (0, 1, 2, 3, 11, 12, 5):
        expected = here.batch(step)
        LEDGER.clear()
        batch = there.batch(step)
        assert not LEDGER.waits
        _same(batch.x, expected.x, exact=name != "token")
        assert batch.left_out.tolist() == expected.left_out.tolist()
        left_out += len(expected.left_out)
    assert left_out


def test_any_number_of_data_ranks_and_a_resumed_run_get_the_same_bits(make_reader):
    alone, parts = make_reader(), [make_reader(rank, 4) for rank in range(4)]
    for step in (0, 1, 2):
        expected = alone.batch(step).x.cpu()
        assert torch.equal(torch.cat([part.batch(step).x for part in parts]).cpu(), expected)
    assert torch.equal(make_reader().batch(2).x.cpu(), expected)


def test_rows_are_copied_as_they_are_stored_from_page_locked_memory_of_exact_size(store, make_reader):
    reader = make_reader()
    assert sum(LEDGER.locked.values()) == sum(buffer.nbytes for buffer in reader._rows._buffers)
    reader.batch(0)
    reader.wait_until_ahead()
    rows = 2 * BATCH * D_IN  # the batch and the one ahead of it
    assert LEDGER.copied == {"up, page-locked": rows * 2}
    assert sum("upload.py" in place and "synchronize" in place for place in LEDGER.waits_aside) == 1
    reader.close()
    assert not LEDGER.locked


def test_what_cannot_be_locked_is_ordinary_memory(make_reader, monkeypatch, capfd):
    monkeypatch.setattr(torch.cuda.cudart(), "cudaHostRegister", lambda address, size, flags: 2)
    reader = make_reader()
    found = reader.batch(0).x
    reader.wait_until_ahead()
    assert set(LEDGER.copied) == {"up, ordinary"}
    assert (
        capfd.readouterr().err.count("could not be locked for copies to or from the GPU (CUDA error 2); batches") == 1
    )
    _same(found, make_reader(device=torch.device("cpu")).batch(0).x, exact=False)


def test_a_batch_that_is_kept_keeps_its_rows(make_reader):
    reader = make_reader()
    kept = [reader.batch(step).x for step in range(9)]
    again = make_reader()
    for step, rows in enumerate(kept):
        assert torch.equal(rows.cpu(), again.batch(step).x.cpu())


def test_bytes_on_the_gpu():
    assert upload_bytes(8192, 768, 2) == 8192 * 768 * (5 * 4 + 2)
