"""Reading ahead: in order, into a bounded number of buffers that are used again, and errors where they are needed."""

import threading
from itertools import count

import numpy as np
import pytest

from distsae.batches.read_ahead import ReadAhead
from distsae.batches.stream_order import Visit
from distsae.errors import TornData


class Source:
    """Loads a visit's number into its buffer; waits while `gate` is closed; remembers what it was asked for."""

    def __init__(self, damaged=()):
        self.gate, self.damaged = threading.Event(), damaged
        self.gate.set()
        self.loaded, self.memory, self.settled = [], set(), threading.Condition()

    def __call__(self, visit, buffer):
        assert self.gate.wait(30)
        if visit.chunk in self.damaged:
            raise TornData(f"chunk {visit.chunk} is damaged")
        buffer[:] = visit.chunk % 256
        with self.settled:
            self.loaded.append(visit.chunk)
            self.memory.add(buffer.ctypes.data)
            self.settled.notify_all()
        return buffer.reshape(1, -1)

    def wait_for(self, number):
        with self.settled:
            assert self.settled.wait_for(lambda: len(self.loaded) >= number, 30)


def _visits(streams=4, first=0):
    return (Visit(step=n // streams, stream=n % streams, start=0, stop=1, chunk=n) for n in count(first))


@pytest.fixture
def ahead():
    made = []

    def make(source, buffers, threads=2):
        made.append(ReadAhead(source, buffers, 8, threads))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_every_visit_in_order_in_few_buffers(ahead, threads):
    source = Source()
    one = ahead(source, 6, threads)
    one.begin(_visits())
    for number in range(60):
        loaded = one.take(number % 4)
        assert loaded.visit.chunk == number
        assert (loaded.rows == number).all()
        one.release(loaded)
    assert len(source.memory) <= 6


def test_reads_before_it_is_asked_and_no_further_than_its_buffers(ahead):
    source = Source()
    one = ahead(source, 6)
    one.begin(_visits())
    one.settle()
    assert sorted(source.loaded) == list(range(6))
    held = [one.take(0), one.take(1)]
    assert len(source.loaded) == 6
    for loaded in held:
        one.release(loaded)
    one.settle()
    assert sorted(source.loaded) == list(range(8))


def test_one_buffer_more_than_is_held_is_enough(ahead):
    source = Source()
    one = ahead(source, 5)
    one.begin(_visits())
    held = {}
    for number in range(40):
        if number % 4 in held:
            one.release(held.pop(number % 4))
        held[number % 4] = one.take(number % 4)
        assert held[number % 4].visit.chunk == number
    assert all((loaded.rows == loaded.visit.chunk).all() for loaded in held.values())


def test_beginning_anew_drops_what_is_loaded_and_under_way(ahead):
    source = Source()
    one = ahead(source, 6)
    one.begin(_visits())
    source.wait_for(3)
    for first in (100, 1000, 104):
        one.begin(_visits(first=first))
        for number in range(20):
            loaded = one.take(number % 4)
            assert loaded.visit.chunk == first + number
            assert (loaded.rows == (first + number) % 256).all()
            one.release(loaded)
    assert len(source.memory) <= 6


def test_an_error_is_raised_where_the_rows_are_taken_and_again(ahead):
    one = ahead(Source(damaged={5}), 6)
    one.begin(_visits())
    for number in range(5):
        one.release(one.take(number % 4))
    for _ in range(2):
        with pytest.raises(TornData, match="chunk 5 is damaged"):
            one.take(1)
    one.release(one.take(2))
    one.begin(_visits(first=6))
    assert one.take(6 % 4).visit.chunk == 6


def test_buffers_are_not_shared_by_what_is_held(ahead):
    one = ahead(Source(), 8)
    one.begin(_visits())
    held = [one.take(number % 4) for number in range(8)]
    assert [int(loaded.rows[0, 0]) for loaded in held] == list(range(8))
    assert len({np.asarray(loaded.buffer).ctypes.data for loaded in held}) == 8
