import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from distsae.batches import BatchReader
from distsae.batches import unit_waiter as arrival
from distsae.batches.unit_waiter import UnitWaiter
from distsae.errors import CannotContinue, TornData
from distsae.store import Store, begin_store, release, seal_store, units_to_seal
from tests.store.synthetic import attributes, write_store, write_unit

ATTRS = attributes(contexts=200, keep_units=4)


@pytest.fixture
def store(tmp_path):
    begin_store(tmp_path, ATTRS)
    for unit in units_to_seal(ATTRS):
        write_unit(tmp_path, ATTRS, unit)
    seal_store(tmp_path, ATTRS)
    return Store.open(tmp_path)


def test_what_is_there_is_not_waited_for(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(arrival, "_SILENCE", 0.0)  # who waits says so at once
    UnitWaiter(store).wait_for(1)
    whole = write_store(tmp_path / "whole")
    for unit in range(len(whole.units)):
        UnitWaiter(whole).wait_for(unit)
    assert capsys.readouterr().err == ""


def test_waits_and_says_so(store, monkeypatch, capsys):
    monkeypatch.setattr(arrival, "_POLL", 0.01)
    monkeypatch.setattr(arrival, "_SILENCE", 0.0)
    monkeypatch.setattr(arrival, "_REMIND", 1e6)
    arrivals = UnitWaiter(store)
    say = UnitWaiter._say
    thread = threading.local()
    all_wait = threading.Barrier(3, timeout=120)  # both threads, each after it would have said so, and this one

    def saying(self, unit):
        say(self, unit)
        if not hasattr(thread, "has_said"):
            thread.has_said = True
            all_wait.wait()

    monkeypatch.setattr(UnitWaiter, "_say", saying)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(arrivals.wait_for, 2) for _ in range(2)]
        all_wait.wait()
        assert not any(future.done() for future in waiting)
        write_unit(store.path, ATTRS, 2)
        for future in waiting:
            future.result(timeout=120)
    assert capsys.readouterr().err.count("waiting for unit 2 of") == 1  # though two wait


def test_a_released_unit_never_comes(store):
    release(store.path, "a run", 2)
    with pytest.raises(TornData, match=r"unit 1 of .* has been released"):
        UnitWaiter(Store.open(store.path)).wait_for(1)


def test_waiting_can_be_ended(store):
    arrivals = UnitWaiter(store)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(arrivals.wait_for, 3)
        arrivals.give_up()
        with pytest.raises(CannotContinue, match="reader was closed"):
            waiting.result(timeout=120)


def test_a_seek_does_not_wait_for_units_that_nobody_makes_before_it(store):
    """The end of a run reads rows of its last window again, while reading ahead waits for the next one."""
    reader = BatchReader(store, ATTRS.hooks[0], 64, 0, 0, 1)
    window = next(step for step in range(reader.order.steps) if reader.order.window(step) == 1)
    with ThreadPoolExecutor(1) as pool:
        first = [pool.submit(reader.batch, step).result(timeout=120).clone() for step in range(window)]
        again = [pool.submit(reader.batch, step).result(timeout=120).clone() for step in range(window)]
        assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
        pool.submit(reader.close).result(timeout=120)
