"""The planned memory of a reader is that of the reader."""

import pytest

from distsae.batches import STREAMS, BatchReader, reader_bytes
from distsae.batches.reader_memory import buffer_steps
from distsae.store import Store


def test_a_buffer_holds_half_a_megabyte_of_a_stream_but_no_more_than_an_epoch_or_64_batches():
    assert buffer_steps(1 << 19, 1000) == 1
    assert buffer_steps((1 << 18) - 1, 1000) == 3
    assert buffer_steps(1 << 10, 1000) == 64
    assert buffer_steps(1 << 10, 7) == 7


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("ranks", [1, 2, 64])
def test_planned_and_real(tiny_store, ranks, gpu):
    store = Store.open(str(tiny_store))
    reader = BatchReader(store, "blocks.0.resid_post", 256, 0, 0, ranks)
    try:
        planned = reader_bytes(
            streams=STREAMS // ranks,
            rows_per_stream=256 // STREAMS,
            d_in=32,
            storage_bytes=2,
            steps_per_epoch=reader.order.steps_per_epoch,
            gpu=gpu,
        )
        assert planned == reader.memory_bytes(gpu=gpu)
    finally:
        reader.close()
