"""The peer's end: batches from a stream, answers on stdout."""

import io
import struct

import pytest
import torch

from distsae.recipes.study.peers.worker import batches


def _stream(*arrays, end=True):
    parts = [struct.pack("<i", len(x)) + x.numpy().tobytes() for x in arrays]
    return io.BytesIO(b"".join(parts) + (struct.pack("<i", 0) if end else b""))


def test_batches_of_any_size_until_one_has_no_rows():
    first, second = torch.randn(3, 5), torch.randn(1, 5)
    found = list(batches(_stream(first, second), 5))
    assert [torch.equal(a, b) for a, b in zip(found, (first, second), strict=True)] == [True, True]
    found[0] += 1  # a trainer may write to its batch


@pytest.mark.parametrize("cut", [1, 4, 30])
def test_a_stream_that_ends_early_is_an_error(cut):
    content = _stream(torch.randn(3, 5), end=False).getvalue()[:-cut]
    with pytest.raises(EOFError):
        list(batches(io.BytesIO(content), 5))
    with pytest.raises(EOFError):
        list(batches(_stream(torch.randn(3, 5), end=False), 5))
