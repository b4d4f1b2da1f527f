"""The learning rate: it warms up, stays constant and decays."""

import math

import pytest

from distsae.training import OptimizerConfig


def test_schedule():
    config = OptimizerConfig(lr=2.0, warmup_share=0.1, decay_share=0.25)
    rates = [config.rate(step, 40, d_sae=128) for step in range(40)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4:30] == [2.0] * 26
    assert rates[30:] == pytest.approx([2.0 * left / 10 for left in range(10, 0, -1)])


def test_without_warm_up_and_decay():
    config = OptimizerConfig(lr=1.0, warmup_share=0.0, decay_share=0.0)
    assert [config.rate(step, 3, d_sae=1) for step in range(3)] == [1.0, 1.0, 1.0]
    assert OptimizerConfig(lr=1.0).rate(0, 1, d_sae=1) == 1.0


def test_automatic_rate_falls_with_the_roots_of_width_and_length():
    config = OptimizerConfig()
    assert config.peak_rate(1 << 14, 300) == pytest.approx(2.2e-3)
    assert config.peak_rate(1 << 14, 10) == pytest.approx(2.2e-3)  # no higher in shorter runs
    assert config.peak_rate(1 << 16, 300) == pytest.approx(1.1e-3)
    assert config.peak_rate(1 << 16, 30_000) == pytest.approx(1.1e-4)
    assert OptimizerConfig(lr=0.1).peak_rate(1 << 16, 30_000) == 0.1


def test_cosine_decay_and_a_final_rate():
    cosine = OptimizerConfig(lr=2.0, warmup_share=0.0, decay_share=0.5, decay="cosine", final_share=0.25)
    rates = [cosine.rate(step, 8, d_sae=1) for step in range(9)]
    expected = [2 * (0.25 + 0.75 * (1 + math.cos(math.pi * part / 4)) / 2) for part in range(5)]
    assert rates == pytest.approx([2.0] * 4 + expected)
    assert rates[8] == pytest.approx(0.5)  # the step after the last one
    linear = OptimizerConfig(lr=2.0, warmup_share=0.0, decay_share=0.5, final_share=0.25)
    assert [linear.rate(step, 8, d_sae=1) for step in range(3, 8)] == pytest.approx([2.0, 2.0, 1.625, 1.25, 0.875])
    assert OptimizerConfig(lr=2.0, final_share=1.0).rate(99, 100, d_sae=1) == 2.0
