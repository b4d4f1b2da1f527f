"""The benchmark's own parts: its problem, its dense contestant, and a worker that works and one that cannot."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from distsae.allocation import mutual_choice
from tests.benchmarks.peers.contestants import CONTESTANTS, OURS, Entry
from tests.benchmarks.peers.dense_step import keep_largest
from tests.benchmarks.peers.problem import Size, activations
from tests.benchmarks.peers.process import Failed, Worker


def test_the_dense_contestant_selects_what_mutual_choice_selects():
    scores = torch.randn(12, 20, generator=torch.Generator().manual_seed(0))
    kept, matches = keep_largest(scores, 30), mutual_choice(scores, 30)
    expected = torch.zeros_like(scores)
    expected[matches.token, matches.feature] = matches.score
    assert torch.equal(kept, expected)


def test_batches_differ_have_the_norm_of_activations_and_depend_on_the_seed_alone():
    few, more = activations(2, 64, 32, seed=3), activations(3, 64, 32, seed=3)
    assert np.array_equal(few, more[:2])
    assert not np.array_equal(few[0], few[1])
    assert not np.array_equal(few, activations(2, 64, 32, seed=4))
    assert np.linalg.norm(few, axis=2).mean() == pytest.approx(32**0.5, rel=1e-4)


def test_workers_take_turns_and_one_that_cannot_says_why(tmp_path):
    batches = tmp_path / "batches.npy"
    np.save(batches, activations(3, 64, 16, seed=0))
    size = Size(16, 128, 64, 4, threads=1)
    with (
        Worker(sys.executable, CONTESTANTS[OURS], size, batches, 8192) as ours,
        Worker(sys.executable, Entry("dense_step"), size, batches, 8192) as dense,
    ):
        steps = [(ours.step(), dense.step()) for _ in range(3)]
    assert all(0 < step["fvu"] < 20 and step["seconds"] > 0 for pair in steps for step in pair)
    assert all(step["peak_mib"] > 0 for step in steps[-1])
    with pytest.raises(Failed, match=r"no_such_step: ModuleNotFoundError"):
        Worker(sys.executable, Entry("no_such_step"), size, batches, 8192)
    wide = Size(16, 1 << 24, 64, 4, threads=1)  # 1 GiB a matrix
    with pytest.raises(Failed, match=r"dense_step: .*[mM]emory"):
        Worker(sys.executable, Entry("dense_step"), wide, batches, 512)
