"""Where the rows of a stream belong in a buffer of batches."""

import pytest
import torch

from distsae.batches.batch_buffer import BatchBuffer


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_each_row_of_each_stream_has_its_position(dtype):
    buffer = BatchBuffer(steps=5, streams=3, rows_per_stream=4, d_in=2, dtype=dtype)
    buffer.hold(70, 74)
    assert buffer.rows == 16
    for index in range(3):
        for row in range(16):
            (part,) = buffer.parts(index, row, row + 1)
            assert len(part) == 2 * dtype.itemsize
            part[:] = torch.full((2,), 100.0 * index + row, dtype=dtype).view(torch.uint8).numpy().data
    for step in range(70, 74):
        batch = buffer.batch(step)
        assert batch.shape == (12, 2)
        assert batch.is_contiguous()
        rows = range(4 * (step - 70), 4 * (step - 69))
        assert batch[:, 1].tolist() == [100 * index + row for index in range(3) for row in rows]


@pytest.mark.parametrize(("start", "stop"), [(0, 16), (0, 1), (3, 4), (3, 5), (4, 8), (2, 13), (15, 16)])
def test_any_range_is_its_rows_in_order(start, stop):
    buffer = BatchBuffer(steps=4, streams=3, rows_per_stream=4, d_in=1, dtype=torch.float32)
    buffer.hold(0, 4)
    rows = torch.arange(stop - start, dtype=torch.float32)
    content, done = rows.view(torch.uint8).numpy().data, 0
    for part in buffer.parts(1, start, stop):
        part[:] = content[done : done + len(part)]
        done += len(part)
    assert done == len(content)
    whole = torch.cat([buffer.batch(step)[4:8, 0] for step in range(4)])
    assert torch.equal(whole[start:stop], rows)


def test_batches_begin_at_a_page():
    buffer = BatchBuffer(steps=2, streams=64, rows_per_stream=8, d_in=256, dtype=torch.float16)
    buffer.hold(3, 5)
    assert [buffer.batch(step).data_ptr() % 4096 for step in (3, 4)] == [0, 0]
    assert buffer.nbytes == 2 * 64 * 8 * 512
