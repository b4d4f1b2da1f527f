"""Rows that a GPU computes arrive one pass late, where those of a CPU go at once; both are checked."""

import pytest
import torch

from distsae.errors import CannotContinue
from distsae.producer.row_copies import RowCopies, stored
from tests.pretended_cuda import CUDA, LEDGER, pretended_cuda

D_IN = 6


@pytest.mark.parametrize("storage", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_one_broken_value_anywhere_is_found(storage, broken):
    largest = torch.finfo(storage).max
    for position in (0, 37, 3 * 257 - 1):
        values = torch.zeros(3, 257)
        values.view(-1)[:2] = torch.tensor([largest, -largest])
        assert torch.equal(stored(values, storage, "h"), values.to(storage))
        values.view(-1)[position] = broken
        with pytest.raises(CannotContinue, match="got 1 infinities or NaNs at h"):
            stored(values, storage, "h")


@pytest.fixture
def gpu():
    with pretended_cuda():
        LEDGER.clear()
        LEDGER.locked.clear()
        yield


def _passes():
    """Rows of three passes at two hooks, the last one shorter, and their places."""
    generator = torch.Generator().manual_seed(0)
    places = torch.randperm(14, generator=generator)
    for part in places.split(5):
        yield {hook: torch.randn(len(part), D_IN, generator=generator) for hook in ("a", "b")}, part


def _arrays():
    return {"a": torch.zeros(14, D_IN, dtype=torch.float16), "b": torch.zeros(14, D_IN, dtype=torch.bfloat16)}


def _filled():
    acts = _arrays()
    for computed, places in _passes():
        for hook, rows in computed.items():
            acts[hook][places] = rows.to(acts[hook].dtype)
    return acts


def test_rows_on_a_cpu_are_there_at_once():
    acts, (computed, places) = _arrays(), next(_passes())
    with RowCopies(acts) as copies:
        copies.put(computed, places)
        assert torch.equal(acts["a"][places], computed["a"].half())


def test_rows_on_a_gpu_arrive_one_pass_late_through_page_locked_memory(gpu):
    acts, expected = _arrays(), _filled()
    with RowCopies(acts) as copies:
        for number, (computed, places) in enumerate(_passes()):
            there = {hook: rows.to(CUDA) for hook, rows in computed.items()}
            LEDGER.clear()
            copies.put(there, places)
            assert sum(LEDGER.waits.values()) == (number > 0)  # for the pass before, which is done by then
            size = 2 * sum(rows.numel() for rows in computed.values()) + 2
            assert LEDGER.copied == {"down, page-locked": size}
            assert bool((acts["a"][places] == 0).all())
        assert sum(LEDGER.locked.values()) == 2 * 2 * (5 * D_IN * 2 + 1)
    assert not LEDGER.locked
    for hook, rows in expected.items():
        assert torch.equal(acts[hook], rows)


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_value_on_a_gpu_that_is_not_finite_ends_the_unit(gpu, bad):
    def produce():
        with RowCopies(_arrays()) as copies:
            for number, (computed, places) in enumerate(_passes()):
                if number == bad:
                    computed["b"][1, 2] = torch.inf
                copies.put({hook: rows.to(CUDA) for hook, rows in computed.items()}, places)

    with pytest.raises(CannotContinue, match="got 1 infinities or NaNs at b; use another hook or model"):
        produce()
    assert not LEDGER.locked


def test_a_value_that_the_store_cannot_hold_ends_the_unit(gpu):
    with pytest.raises(CannotContinue, match=r"`dtype` must hold every activation; got .* at a beyond 65504"):  # noqa: SIM117
        with RowCopies(_arrays()) as copies:
            copies.put({"a": torch.full((2, D_IN), 1e5, device=CUDA)}, torch.arange(2))


def test_an_error_of_the_caller_passes_and_the_memory_is_given_back(gpu):
    def produce():
        with RowCopies(_arrays()) as copies:
            computed, places = next(_passes())
            copies.put({hook: rows.to(CUDA) for hook, rows in computed.items()}, places)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        produce()
    assert not LEDGER.locked


def test_what_cannot_be_locked_is_ordinary_memory(gpu, monkeypatch, capfd):
    monkeypatch.setattr(torch.cuda.cudart(), "cudaHostRegister", lambda address, size, flags: 2)
    acts, expected = _arrays(), _filled()
    with RowCopies(acts) as copies:
        for computed, places in _passes():
            copies.put({hook: rows.to(CUDA) for hook, rows in computed.items()}, places)
    for hook, rows in expected.items():
        assert torch.equal(acts[hook], rows)
    assert capfd.readouterr().err.count("(CUDA error 2); rows are copied to ordinary memory") == 1
