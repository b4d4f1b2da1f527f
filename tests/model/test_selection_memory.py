"""Chunks of scores fit into the memory they are given, in whole eights, and cover every feature once."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distsae.model import FIRST_STEP_BYTES, AllocationName, chunk_size, least_selection_mb, selection_mb_on
from distsae.model.selection_memory import chunk_bounds


@given(
    features=st.integers(1, 500),
    tokens=st.integers(0, 3000),
    selection_mb=st.floats(1e-9, 4.0),
    prefilter=st.booleans(),
)
def test_chunks_cover_all_features_in_eights(features, tokens, selection_mb, prefilter):
    bounds = chunk_bounds(features, tokens, selection_mb, prefilter)
    assert [first for first, _ in bounds] == [0, *(last for _, last in bounds[:-1])]
    assert bounds[-1][1] == features
    sizes = [last - first for first, last in bounds]
    assert all(size % 8 == 0 for size in sizes[:-1])
    assert max(sizes) <= chunk_size(features, tokens, selection_mb, prefilter)
    assert min(sizes) >= min(features, 8)


@pytest.mark.parametrize(("prefilter", "score_bytes"), [(False, 48), (True, 24)])
def test_a_chunk_stays_within_its_memory(prefilter, score_bytes):
    bounds = chunk_bounds(4096, 1024, 8.0, prefilter)
    assert [last - first for first, last in bounds[:2]] == [(8 << 20) // (1024 * score_bytes) // 8 * 8] * 2


def test_least_memory_target():
    assert [least_selection_mb(tokens) for tokens in (1, 2730, 2731, 65536)] == [1, 1, 2, 24]


def test_every_rule_was_measured():
    assert set(FIRST_STEP_BYTES) == set(get_args(AllocationName))


def test_a_gpu_gets_larger_chunks_unless_told_otherwise():
    assert [selection_mb_on(device, 8192) for device in ("cpu", "cuda")] == [128, 4096]
    assert [selection_mb_on(device, 8192, 7) for device in ("cpu", "cuda")] == [7, 7]
    assert selection_mb_on("cpu", 1 << 20) == least_selection_mb(1 << 20) == 384  # whatever the batch, it fits
    assert [len(chunk_bounds(131072, 8192, size, prefilter=True)) for size in (128, 4096)] == [193, 7]
