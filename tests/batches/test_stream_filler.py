"""One filler: its streams' rows in buffer after buffer, with few chunks open, and nothing after a failure."""

import numpy as np
import pytest
import torch

from distsae.batches.batch_buffer import BatchBuffer
from distsae.batches.stream_filler import StreamFiller
from distsae.batches.stream_order import StreamOrder
from distsae.errors import TornData
from distsae.store.open_chunk import ChunkInMemory

ROWS = [7, 30, 1, 2, 1, 64, 15, 3, 40, 9]


class Source:
    """Chunks whose rows hold their own numbers: `1000 * chunk + row`."""

    def __init__(self):
        self.open = 0
        self.most = 0
        self.damaged = None

    def __call__(self, visit):
        if visit.chunk == self.damaged:
            raise TornData(f"chunk {visit.chunk} is damaged")
        self.open += 1
        self.most = max(self.most, self.open)
        rows = 1000 * visit.chunk + np.arange(visit.start, visit.stop, dtype=np.float32)
        return ChunkInMemory(rows[:, None].view(np.uint8), visit.start, self._close)

    def _close(self):
        self.open -= 1


@pytest.fixture
def order():
    return StreamOrder(ROWS, batch_tokens=16, seed=5, streams=8)


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def filler(order, source):
    filler = StreamFiller(order, {1: 0, 4: 1, 6: 2}, source, most_open=4)
    yield filler
    filler.close()
    assert source.open == 0


def _expected(order, step):
    parts = [part for stream in (1, 4, 6) for part in order.slices(step, stream)]
    return [1000 * part.chunk + row for part in parts for row in range(part.start, part.stop)]


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_buffers_one_after_the_other(order, source, filler, steps):
    buffer = BatchBuffer(steps, streams=3, rows_per_stream=2, d_in=1, dtype=torch.float32)
    for start in (0, 5, 4):
        filler.seek(start)
        for first in range(start, start + 4 * order.steps_per_epoch, steps):
            buffer.hold(first, first + steps)
            filler.fill(buffer).result()
            for step in range(first, first + steps):
                assert buffer.batch(step)[:, 0].tolist() == _expected(order, step)
    assert source.most == 4  # one more than there are streams


def test_after_a_failure_nothing_is_filled_until_it_starts_anew(order, source, filler):
    buffer = BatchBuffer(order.steps_per_epoch, streams=3, rows_per_stream=2, d_in=1, dtype=torch.float32)
    source.damaged = order.slices(1, 4)[0].chunk
    filler.seek(0)
    for first in (0, order.steps_per_epoch):
        buffer.hold(first, first + order.steps_per_epoch)
        with pytest.raises(TornData, match=f"chunk {source.damaged} is damaged"):
            filler.fill(buffer).result()
    source.damaged = None
    filler.seek(0)
    buffer.hold(0, order.steps_per_epoch)
    filler.fill(buffer).result()
    assert buffer.batch(1)[:, 0].tolist() == _expected(order, 1)
