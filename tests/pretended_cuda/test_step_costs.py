"""Budgets of a step on a GPU: launches, waits of the CPU for the device, bytes of the update. None may grow.

Where a number has become smaller, write the smaller one down here. `python -m tests.benchmarks.gpu_step` makes the
table of whole steps from the same measurements.
"""

import pytest

from tests.pretended_cuda.device_guard import load_device_guard
from tests.pretended_cuda.step_costs import bytes_a_weight, growth_of

LAUNCHES = {
    ("mutual_choice", False): (26, 46, 162),
    ("mutual_choice", True): (61, 51, 213),
    ("token_choice", False): (47.5, 46, 209),
    ("token_choice", True): (82.5, 51, 260),
    ("feature_choice", False): (146.375, 46, 18.5),
    ("feature_choice", True): (181.375, 51, 69.5),
}
"""Launches of each chunk of scores, of each block of the update, and of the rest of a step."""

WAITS = {
    ("mutual_choice", False): (2, 0, 23),
    ("mutual_choice", True): (5, 0, 31),
    ("token_choice", False): (3.5, 0, 18),
    ("token_choice", True): (6.5, 0, 26),
    ("feature_choice", False): (14, 0, 6),
    ("feature_choice", True): (17, 0, 14),
}
"""Waits of each, likewise."""

BYTES = {"fp32": 75.5, "bf16": 168.5, "int8": 344.6}
"""Bytes that an update reads and writes for each number of the encoder and decoder, by the storage of the moments."""


@pytest.fixture(scope="module", autouse=True)
def compiler():
    load_device_guard()


@pytest.mark.parametrize(("rule", "auxiliary"), LAUNCHES)
def test_a_step_launches_and_waits_no_more_than_it_did(rule, auxiliary):
    for budget, found in zip((LAUNCHES, WAITS), growth_of(rule, auxiliary=auxiliary), strict=True):
        chunk, block, rest = budget[rule, auxiliary]
        assert found.chunk <= chunk, found
        assert found.block <= block, found
        assert found.rest <= rest, found


@pytest.mark.parametrize("state", BYTES)
def test_an_update_moves_no_more_bytes_than_it_did(state):
    assert bytes_a_weight(state) <= BYTES[state]
