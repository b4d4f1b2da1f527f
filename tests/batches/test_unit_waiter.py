import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from distsae.batches import BatchReader
from distsae.batches.unit_waiter import UnitWaiter
from distsae.errors import CannotContinue, TornData
from distsae.store import Store, release
from tests.store.synthetic import attributes, write_store, write_unit

ATTRS = attributes(contexts=200, keep_units=4)


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path, ATTRS)


def test_committed_units_are_not_waited_for(store, tmp_path, capsys):
    UnitWaiter(store, first_after=0.0).wait_for(1)  # a thread that waits would report it at once
    whole = write_store(tmp_path / "whole")
    for unit in range(len(whole.units)):
        UnitWaiter(whole, first_after=0.0).wait_for(unit)
    assert capsys.readouterr().err == ""


def test_the_user_is_told_once_however_many_threads_wait(store, monkeypatch, capsys):
    waiter = UnitWaiter(store, first_after=0.0, repeat_after=1e6)
    record, of_thread = store.record, threading.local()
    all_wait = threading.Barrier(3, timeout=120)  # two threads that wait, and this one

    def counted(unit):
        of_thread.looks = getattr(of_thread, "looks", 0) + 1
        if of_thread.looks == 2:  # after the first look, the thread has told the user unless the other one had
            all_wait.wait()
        return record(unit)

    monkeypatch.setattr(store, "record", counted)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(waiter.wait_for, 2) for _ in range(2)]
        all_wait.wait()
        assert not any(future.done() for future in waiting)
        write_unit(store.path, ATTRS, 2)
        for future in waiting:
            future.result(timeout=120)
    assert capsys.readouterr().err.count("waiting for unit 2 of") == 1


def test_a_released_unit_is_an_error(store):
    release(store.path, "a run", 2)
    with pytest.raises(TornData, match=r"unit 1 of .* has been released"):
        UnitWaiter(Store.open(store.path)).wait_for(1)


def test_waiting_can_be_ended(store):
    waiter = UnitWaiter(store)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(waiter.wait_for, 3)
        waiter.stop_waiting()
        with pytest.raises(CannotContinue, match=r"unit 3 of .* was not committed when the reader was closed"):
            waiting.result(timeout=120)
        waiter.allow_waiting()
        waiting = pool.submit(waiter.wait_for, 3)
        assert not waiting.done()
        write_unit(store.path, ATTRS, 3)
        waiting.result(timeout=120)


def test_going_back_does_not_wait_for_units_that_are_produced_only_later(store):
    """The end of a run reads rows of its last window again, while reading ahead waits for the next window."""
    reader = BatchReader(store, ATTRS.hooks[0], 64, 0, 0, 1)
    window = next(step for step in range(reader.order.steps) if reader.order.window(step) == 1)
    with ThreadPoolExecutor(1) as pool:
        first = [pool.submit(reader.batch, step).result(timeout=120).x.clone() for step in range(window)]
        again = [pool.submit(reader.batch, step).result(timeout=120).x.clone() for step in range(window)]
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        pool.submit(reader.close).result(timeout=120)
