"""Budgets of a step on a GPU: launches, waits of the CPU for the device, bytes of the update. None may grow.

Where a number has become smaller, write the smaller one down here. `python -m tests.benchmarks.gpu_step` makes the
table of whole steps from the same measurements.
"""

import pytest

from tests.pretended_cuda.device_guard import load_device_guard
from tests.pretended_cuda.step_costs import EVERY_BATCH, bytes_a_score, bytes_a_weight, growth_of

LAUNCHES = {
    ("mutual_choice", False): (8, 0, 142),
    ("mutual_choice", True): (13, 0, 200),
    ("token_choice", False): (16.25, 0, 165),
    ("token_choice", True): (22.25, 0, 223),
    ("feature_choice", False): (19, 0, 170),
    ("feature_choice", True): (24, 0, 228),
    (EVERY_BATCH, False): (8, 0, 326),
    (EVERY_BATCH, True): (13, 0, 384),
}
"""Launches of each chunk of scores, of each block of the update, and of the rest of a step."""

WAITS = 3
"""Waits of a step of any rule, however many chunks and blocks there are: for selections, losses and norm."""

BYTES = {"fp32": 28.1, "bf16": 21.0, "int8": 17.1}
"""Bytes that an update reads and writes for each number of the encoder and decoder, by the storage of the moments."""

BYTES_A_SCORE = {False: 6.4, True: 0.77}
"""Bytes that Mutual Choice reads and writes for each score: of a matrix of upper bounds, and of one bit a score."""


@pytest.fixture(scope="module", autouse=True)
def compiler():
    load_device_guard()


@pytest.mark.parametrize(("rule", "auxiliary"), LAUNCHES)
def test_a_step_launches_and_waits_no_more_than_it_did(rule, auxiliary):
    launches, waits = growth_of(rule, auxiliary=auxiliary)
    chunk, block, rest = LAUNCHES[rule, auxiliary]
    assert launches.chunk <= chunk, launches
    assert launches.block <= block, launches
    assert launches.rest <= rest, launches
    assert (waits.chunk, waits.block) == (0, 0), waits
    assert waits.rest <= WAITS, waits


@pytest.mark.parametrize("state", BYTES)
def test_an_update_moves_no_more_bytes_than_it_did(state):
    assert bytes_a_weight(state) <= BYTES[state]


@pytest.mark.parametrize("direct", BYTES_A_SCORE)
def test_a_score_moves_no_more_bytes_than_it_did(direct):
    assert bytes_a_score(direct=direct) <= BYTES_A_SCORE[direct]
