"""Opening ahead: in order, a bounded number at a time, and errors where the chunk is needed."""

import threading
from itertools import count, islice

import pytest

from distsae.batches.open_ahead import OpenAhead
from distsae.batches.stream_order import Visit
from distsae.errors import TornData

FAR = 10**9


class Chunk:
    """An open chunk that its source counts."""

    def __init__(self, source, number):
        self.source, self.number = source, number

    def close(self):
        with self.source.changed:
            self.source.open -= 1


class Source:
    """Opens visits; waits while `gate` is closed; records which were opened and how many are open."""

    def __init__(self, damaged=()):
        self.gate, self.damaged = threading.Event(), damaged
        self.gate.set()
        self.opened = []
        self.open = 0
        self.most = 0
        self.changed = threading.Condition()

    def __call__(self, visit):
        assert self.gate.wait(120)
        if visit.chunk in self.damaged:
            raise TornData(f"chunk {visit.chunk} is damaged")
        with self.changed:
            self.opened.append(visit.chunk)
            self.open += 1
            self.most = max(self.most, self.open)
            self.changed.notify_all()
        return Chunk(self, visit.chunk)

    def wait_for(self, number):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.opened) >= number, 120)


def _visits(streams=4, first=0):
    return (Visit(step=n // streams, stream=n % streams, start=0, stop=1, chunk=n) for n in count(first))


@pytest.fixture
def make_ahead():
    made = []

    def make(source, most_open):
        made.append(OpenAhead(source, most_open))
        return made[-1]

    yield make
    for ahead in made:
        ahead.close()


def test_every_visit_in_order_few_open(make_ahead):
    source = Source()
    ahead = make_ahead(source, 6)
    ahead.follow(_visits())
    for number in range(60):
        visit, chunk = ahead.take(FAR)
        assert visit.chunk == chunk.number == number
        ahead.release(chunk)
    assert source.most <= 6


def test_opens_ahead_of_need_and_no_more_than_allowed(make_ahead):
    source = Source()
    ahead = make_ahead(source, 6)
    ahead.follow(_visits())
    ahead.wait_until_ahead()
    assert sorted(source.opened) == list(range(6))
    held = [ahead.take(FAR)[1], ahead.take(FAR)[1]]
    assert len(source.opened) == 6
    for chunk in held:
        ahead.release(chunk)
    ahead.wait_until_ahead()
    assert sorted(source.opened) == list(range(8))


def test_one_more_than_is_held_is_enough(make_ahead):
    source = Source()
    ahead = make_ahead(source, 5)
    ahead.follow(_visits())
    held = {}
    for number in range(40):
        visit, chunk = ahead.take(FAR)
        if visit.stream in held:
            ahead.release(held.pop(visit.stream))
        held[visit.stream] = chunk
        assert chunk.number == number
    assert source.most == 5


def test_a_chunk_that_is_not_needed_yet_is_not_taken(make_ahead):
    source = Source()
    source.gate.clear()
    ahead = make_ahead(source, 6)
    ahead.follow(_visits(first=4))
    assert ahead.take(1) is None  # and does not wait for it
    source.gate.set()
    assert [ahead.take(2)[0].chunk for _ in range(4)] == [4, 5, 6, 7]
    assert ahead.take(2) is None


def test_following_other_visits_closes_what_is_open_and_being_opened(make_ahead):
    source = Source(damaged={2})
    ahead = make_ahead(source, 6)
    ahead.follow(_visits())
    source.wait_for(3)
    for first in (100, 1000, 104):
        ahead.follow(_visits(first=first))
        for number in range(20):
            visit, chunk = ahead.take(FAR)
            assert visit.chunk == chunk.number == first + number
            ahead.release(chunk)
    ahead.close()
    assert source.open == 0
    assert source.most <= 6


def test_visits_may_end(make_ahead):
    source = Source()
    ahead = make_ahead(source, 6)
    ahead.follow(islice(_visits(), 8))
    for number in range(8):
        visit, chunk = ahead.take(FAR)
        assert visit.chunk == number
        ahead.release(chunk)
    assert ahead.take(FAR) is None


def test_an_error_is_raised_where_the_chunk_is_taken_and_again(make_ahead):
    ahead = make_ahead(Source(damaged={5}), 6)
    ahead.follow(_visits())
    for _ in range(5):
        ahead.release(ahead.take(FAR)[1])
    for _ in range(2):
        with pytest.raises(TornData, match="chunk 5 is damaged"):
            ahead.take(FAR)
    ahead.follow(_visits(first=6))
    assert ahead.take(FAR)[0].chunk == 6
