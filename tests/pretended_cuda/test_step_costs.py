"""Budgets of a step on a GPU: launches, waits of the CPU for the device, bytes of the update. None may grow.

Where a number has become smaller, write the smaller one down here. `python -m tests.benchmarks.gpu_step` makes the
table of whole steps from the same measurements.
"""

import pytest

from tests.pretended_cuda.device_guard import load_device_guard
from tests.pretended_cuda.step_costs import bytes_a_score, bytes_a_weight, growth_of

LAUNCHES = {
    ("mutual_choice", False): (9, 0, 162),
    ("mutual_choice", True): (19, 0, 257),
    ("token_choice", False): (46, 0, 207),
    ("token_choice", True): (55, 0, 302),
    ("feature_choice", False): (114, 0, 174),
    ("feature_choice", True): (132, 0, 233),
}
"""Launches of each chunk of scores, of each block of the update, and of the rest of a step."""

WAITS = {
    ("mutual_choice", False): (0, 0, 5),
    ("mutual_choice", True): (0, 0, 7),
    ("token_choice", False): (2.25, 0, 4),
    ("token_choice", True): (2.25, 0, 6),
    ("feature_choice", False): (6.25, 0, 7.5),
    ("feature_choice", True): (6.875, 0, 7),
}
"""Waits of each, likewise: Mutual Choice waits the same few times however many chunks there are."""

BYTES = {"fp32": 28.1, "bf16": 21.0, "int8": 17.1}
"""Bytes that an update reads and writes for each number of the encoder and decoder, by the storage of the moments."""

BYTES_A_SCORE = {False: 6.5, True: 0.87}
"""Bytes that Mutual Choice reads and writes for each score: of a matrix of upper bounds, and of one bit a score."""


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


@pytest.mark.parametrize("direct", BYTES_A_SCORE)
def test_a_score_moves_no_more_bytes_than_it_did(direct):
    assert bytes_a_score(direct=direct) <= BYTES_A_SCORE[direct]
