"""The memory that reading batches takes, from sizes alone: for a plan of a store that does not exist yet."""

from __future__ import annotations

__all__ = ["BATCHES", "BUFFERS", "MOST_FILLERS", "SCRATCH_BYTES", "buffer_steps", "reader_bytes"]

BUFFERS = 2
"""The buffer of rows in use, and the buffer that is being filled."""

BATCHES = 3
"""The batch in use, the batch that is ready, and the batch that is being filled."""

MOST_FILLERS = 2
"""Most threads that read rows."""

SCRATCH_BYTES = 2**20
"""Memory in which a thread checks a file."""

_READ_BYTES = 2**19
"""Intended size of a read from a file; smaller reads cost noticeably more for each byte."""

_MOST_STEPS = 64
"""Most batches in a buffer."""


def buffer_steps(stream_bytes: int, steps_per_epoch: int) -> int:
    """Returns the number of batches in a buffer.

    Args:
        stream_bytes: bytes of the rows of one stream in a batch.
        steps_per_epoch: batches of an epoch.
    """
    return min(-(-_READ_BYTES // stream_bytes), steps_per_epoch, _MOST_STEPS)


def reader_bytes(
    *, streams: int, rows_per_stream: int, d_in: int, storage_bytes: int, steps_per_epoch: int, gpu: bool
) -> int:
    """Returns the most bytes of the host that a `BatchReader` takes, of a store that distsae wrote to a disk.

    Args:
        streams: streams of the data rank.
        rows_per_stream: rows of a stream in a batch.
        d_in: width of a row.
        storage_bytes: bytes of a number in the store.
        steps_per_epoch: batches of an epoch.
        gpu: whether batches are made on a GPU, which then holds them.
    """
    stream_bytes = rows_per_stream * d_in * storage_bytes
    rows = BUFFERS * buffer_steps(stream_bytes, steps_per_epoch) * streams * stream_bytes
    batches = 0 if gpu else BATCHES * streams * rows_per_stream * d_in * 4
    return rows + min(MOST_FILLERS, streams) * SCRATCH_BYTES + batches
