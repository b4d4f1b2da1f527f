"""Producers keep up where together they make as many rows as training takes."""

import pytest

from distsae.planning.cluster.hardware import HARDWARE
from distsae.planning.cluster.producers import producer_rate, producers_needed


def test_enough_and_no_more():
    assert producers_needed(100.0, 30.0) == 4
    assert producers_needed(90.0, 30.0) == 3
    assert producers_needed(0.5, 30.0) == 1


def test_a_token_takes_two_operations_for_each_parameter():
    hardware = HARDWARE["h100"]
    assert producer_rate(1e9, "bf16", hardware, 128) == pytest.approx(hardware.products / 2e9 * 127 / 128)
    assert producer_rate(1e9, "fp32", hardware, 128) == pytest.approx(hardware.exact_products / 2e9 * 127 / 128)
