"""What a plan says of memory is within a tenth of what a run takes; its times are compared by the benchmark alone."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.memory_plan import D_IN, HELDOUT, STEPS, TOKENS, measured
from tests.benchmarks.plan_against_runs import planned_memory
from tests.benchmarks.random_store import synthetic_store


@pytest.mark.heavy
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
@pytest.mark.parametrize("mesh", [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_planned_and_measured_memory(tmp_path, mesh):
    synthetic_store(tmp_path / "store", 2 * STEPS * TOKENS + HELDOUT, D_IN, 1 << 15, HELDOUT)
    place = tmp_path / "one"
    place.mkdir()
    real = measured([json.dumps({"d_sae": 32768, "mesh": mesh})], mesh[0] * mesh[1], place)["measured"][0]
    assert planned_memory(tmp_path / "store", 32768, mesh) == pytest.approx(real, rel=0.1)
