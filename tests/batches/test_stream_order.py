"""The order of rows: every row at most once an epoch, a pure function of seed and step."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distsae.batches import StreamOrder
from distsae.errors import WrongInput


@st.composite
def _orders(draw):
    streams = draw(st.sampled_from([1, 4, 64]))
    rows = draw(st.lists(st.integers(1, 300), min_size=1, max_size=12))
    batch = streams * draw(st.integers(1, max(1, sum(rows) // streams // 2)))
    if batch > sum(rows):
        rows.append(batch)
    return rows, batch, draw(st.integers(0, 2**31)), streams


def _batch(order, step):
    return [
        (s.chunk, row)
        for stream in range(order.streams)
        for s in order.slices(step, stream)
        for row in range(s.start, s.stop)
    ]


@settings(max_examples=60, deadline=None)
@given(_orders())
def test_every_row_at_most_once_an_epoch(drawn):
    rows, batch, seed, streams = drawn
    order = StreamOrder(rows, batch, seed, streams)
    for epoch in (0, 1):
        seen = set()
        for step in range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch):
            found = _batch(order, step)
            assert len(found) == batch
            assert all(0 <= row < rows[chunk] for chunk, row in found)
            assert not seen & set(found)
            seen |= set(found)
            assert len(seen) % batch == 0
        assert sum(rows) - len(seen) < batch + streams


@settings(max_examples=30, deadline=None)
@given(_orders(), st.integers(0, 50))
def test_any_step_may_be_read_first(drawn, step):
    """Resumed at any step, in any order: nothing depends on what was read before."""
    rows, batch, seed, streams = drawn
    walked = StreamOrder(rows, batch, seed, streams)
    for earlier in range(step):
        walked.slices(earlier, 0)
    assert _batch(StreamOrder(rows, batch, seed, streams), step) == _batch(walked, step)


@settings(max_examples=40, deadline=None)
@given(_orders(), st.integers(0, 30))
def test_visits_are_the_slices_of_all_later_steps_in_order_of_need(drawn, step):
    rows, batch, seed, streams = drawn
    order = StreamOrder(rows, batch, seed, streams)
    read_streams, last = range(streams // 2, streams), step + 2 * order.steps_per_epoch + 1
    read = {stream: [] for stream in read_streams}
    needed = []
    for visit in order.visits(step, read_streams):
        if visit.step > last:
            break
        needed.append((visit.step, visit.stream))
        read[visit.stream] += [(visit.chunk, row) for row in range(visit.start, visit.stop)]
    assert needed == sorted(needed)
    for stream in read_streams:
        expected = [
            (part.chunk, row)
            for at in range(step, last + 1)
            for part in order.slices(at, stream)
            for row in range(part.start, part.stop)
        ]
        assert read[stream][: len(expected)] == expected


def test_epochs_and_seeds_differ():
    rows = [100] * 20
    order = StreamOrder(rows, 64, seed=0)
    epoch = order.steps_per_epoch
    assert sorted(_batch(order, 0)) != sorted(_batch(order, epoch))
    assert sorted(_batch(order, 0)) != sorted(_batch(StreamOrder(rows, 64, seed=1), 0))
    left_out = [
        {(chunk, row) for chunk in range(20) for row in range(100)}.difference(
            *(_batch(order, step) for step in range(first, first + epoch))
        )
        for first in (0, epoch)
    ]
    assert left_out[0] != left_out[1]  # other rows are left out in every epoch


def test_a_batch_mixes_rows_from_all_over_the_store():
    order = StreamOrder([256] * 128, 4096, seed=0)
    assert len({chunk for chunk, _ in _batch(order, 0)}) >= 60


def test_wrong_input_is_named():
    for batch in (0, -64, 100):
        with pytest.raises(WrongInput, match=rf"`batch_tokens` \(={batch}\) must be a positive multiple of 64; use 64"):
            StreamOrder([1000], batch, seed=0)
    with pytest.raises(
        WrongInput, match=r"`batch_tokens` \(=1024\) must not exceed the store's training rows; got 1000"
    ):
        StreamOrder([400, 600], 1024, seed=0)


@st.composite
def _windowed(draw):
    rows, batch, seed, streams = draw(_orders())
    cuts = sorted(draw(st.lists(st.integers(1, len(rows)), max_size=4)))
    bounds = [0, *cuts, len(rows)]
    windows = [list(range(a, b)) for a, b in itertools.pairwise(bounds) if a < b]
    if any(sum(rows[chunk] for chunk in window) < batch for window in windows[:-1]):
        windows = [list(range(len(rows)))]
    return rows, batch, seed, streams, windows


@settings(max_examples=60, deadline=None)
@given(_windowed())
def test_windows_are_read_one_after_the_other_and_once(drawn):
    rows, batch, seed, streams, windows = drawn
    order = StreamOrder(rows, batch, seed, streams, windows)
    left = {number: sum(rows[chunk] for chunk in window) for number, window in enumerate(windows)}
    seen, window = set(), 0
    for step in range(order.steps):
        found = _batch(order, step)
        assert len(found) == batch
        assert not seen & set(found)
        seen |= set(found)
        assert {chunk for chunk, _ in found} <= set(windows[order.window(step)])
        assert order.window(step) in (window, window + 1)
        window = order.window(step)
        assert order.window(order.window_begin(step)) == window
        assert order.window_begin(step) in (0, step) or order.window(order.window_begin(step) - 1) == window - 1
        left[window] -= batch
    assert all(0 <= rest < batch + streams for rest in left.values())


@settings(max_examples=40, deadline=None)
@given(_windowed(), st.integers(0, 30))
def test_visits_of_windows_end_with_the_last_step(drawn, step):
    rows, batch, seed, streams, windows = drawn
    order = StreamOrder(rows, batch, seed, streams, windows)
    step = min(step, order.steps - 1)
    wanted = [
        (at, stream, part)
        for stream in range(streams)
        for at in range(step, order.steps)
        for part in order.slices(at, stream)
        for part in [(part.chunk, row) for row in range(part.start, part.stop)]
    ]
    visits = list(order.visits(step, range(streams)))
    got = [
        (stream, chunk, row)
        for stream in range(streams)
        for _, of, start, stop, chunk in visits
        if of == stream
        for row in range(start, stop)
    ]
    assert got == [(stream, *row) for _, stream, row in wanted]
    assert [visit.step for visit in visits] == sorted(visit.step for visit in visits)


def test_one_window_is_the_first_epoch():
    rows = [50, 64, 64, 20]
    windowed, endless = StreamOrder(rows, 16, 3, 4, [range(4)]), StreamOrder(rows, 16, 3, 4)
    assert windowed.steps == endless.steps_per_epoch == windowed.steps_per_epoch
    assert endless.steps is None
    assert [_batch(windowed, step) for step in range(windowed.steps)] == [
        _batch(endless, step) for step in range(windowed.steps)
    ]


def test_a_window_must_hold_a_batch():
    with pytest.raises(WrongInput, match=r"rows of a window .* got 10;"):
        StreamOrder([10, 300], 64, 0, 4, [[0], [1]])
