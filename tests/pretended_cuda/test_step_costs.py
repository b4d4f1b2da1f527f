"""Budgets of a step on a GPU: launches, waits of the CPU for the device, bytes of the update. None may grow.

Most are the figures that `distsae plan` computes with: where one has become smaller, write the smaller one down there.
`python -m tests.benchmarks.gpu_step` makes the table of whole steps from the same measurements.
"""

import pytest

from distsae.planning.cluster.computed_seconds import LAUNCHES as PLANNED
from distsae.planning.cluster.computed_seconds import SCORE_BYTES, WEIGHT_BYTES
from tests.pretended_cuda.device_guard import load_device_guard
from tests.pretended_cuda.step_costs import EVERY_BATCH, bytes_a_score, bytes_a_weight, growth_of

LAUNCHES = PLANNED | {
    (EVERY_BATCH, False): (8, 0, 326),
    (EVERY_BATCH, True): (13, 0, 384),
}
"""Launches of each chunk of scores, of each block of the update, and of the rest of a step."""

WAITS = 3
"""Waits of a step of any rule, however many chunks and blocks there are: for selections, losses and norm."""


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


@pytest.mark.parametrize("state", WEIGHT_BYTES)
def test_an_update_moves_no_more_bytes_than_it_did(state):
    assert bytes_a_weight(state) <= WEIGHT_BYTES[state]


@pytest.mark.parametrize("direct", SCORE_BYTES)
def test_a_score_moves_no_more_bytes_than_it_did(direct):
    assert bytes_a_score(direct=direct) <= SCORE_BYTES[direct]
