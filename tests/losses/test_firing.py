"""Densities, and tokens since a feature last fired, against a count by hand, on every mesh."""

import math

import pytest
import torch

from distsae.collective import Solo
from distsae.losses import FiringStatistics
from tests.distributed.processes import run_on_mesh

FEATURES = 6


def _batches():
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, FEATURES - 1, (20,), generator=generator) for _ in range(5)]  # the last never fires


def test_density_is_a_weighted_mean_over_tokens():
    statistics = FiringStatistics(FEATURES, window_tokens=100, dead_after_tokens=30)
    for feature in _batches():
        statistics.update(feature, 10, Solo())
    ages = [40, 30, 20, 10, 0]
    counts = torch.stack([torch.bincount(feature, minlength=FEATURES) for feature in _batches()])
    weights = torch.tensor([math.exp(-age / 100) for age in ages], dtype=torch.float64)
    expected = (weights[:, None] * counts).sum(0) / (10 * weights.sum())
    torch.testing.assert_close(statistics.density(), expected)


def test_density_is_unbiased_from_the_first_batch():
    statistics = FiringStatistics(2, window_tokens=1_000_000, dead_after_tokens=1000)
    assert statistics.density().tolist() == [0.0, 0.0]
    statistics.update(torch.tensor([0, 0, 0]), 10, Solo())
    assert statistics.density().tolist() == pytest.approx([0.3, 0.0])


def test_dead_after_so_many_tokens_not_steps():
    statistics = FiringStatistics(2, window_tokens=100, dead_after_tokens=30)
    for _ in range(2):
        statistics.update(torch.tensor([0]), 10, Solo())
    assert statistics.dead().tolist() == [False, False]
    statistics.update(torch.tensor([0]), 10, Solo())
    assert statistics.dead().tolist() == [False, True]
    statistics.update(torch.tensor([1]), 25, Solo())
    assert statistics.dead().tolist() == [False, False]
    assert statistics.tokens_since_fired.tolist() == [25, 0]


def _count(mesh):
    statistics = FiringStatistics(FEATURES // mesh.feature.size, window_tokens=100, dead_after_tokens=30)
    first = mesh.features(FEATURES).start
    for feature in _batches():
        of_tokens = feature[mesh.data.rank :: mesh.data.size]  # the matches of this data rank's tokens
        local = of_tokens[(of_tokens >= first) & (of_tokens < first + FEATURES // mesh.feature.size)] - first
        statistics.update(local, 10, mesh.data)
    return statistics.density(), statistics.dead(), statistics.tokens_since_fired


def test_counted_over_all_ranks():
    """Counters per rank, or in steps, change with the world size."""
    (alone,) = run_on_mesh(_count, (1, 1))
    for shape in ((2, 1), (1, 2), (2, 2)):
        ranks = run_on_mesh(_count, shape)
        for data_rank in range(shape[0]):
            for index, expected in enumerate(alone):
                parts = [answer[index] for answer in ranks[data_rank * shape[1] : (data_rank + 1) * shape[1]]]
                assert torch.equal(torch.cat(parts), expected)


def test_the_counts_of_the_last_batch_and_a_copy_of_the_statistics():
    assert FiringStatistics(3, window_tokens=100, dead_after_tokens=30).last_counts is None
    statistics = FiringStatistics(3, window_tokens=100, dead_after_tokens=30)
    statistics.update(torch.tensor([0, 2, 2]), 10, Solo())
    statistics.update(torch.tensor([1, 1]), 4, Solo())
    assert statistics.last_counts.tolist() == [0, 2, 0]
    assert statistics.last_tokens == 4
    copy = FiringStatistics(3, window_tokens=100, dead_after_tokens=30)
    copy.follow(statistics)
    assert torch.equal(copy.density(), statistics.density())
    before = statistics.density().clone()
    copy.update(torch.tensor([0]), 10, Solo())
    assert torch.equal(statistics.density(), before)  # they share no memory
    assert not torch.equal(copy.density(), before)
