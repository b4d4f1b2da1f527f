"""What a dry run says is within a tenth of what training takes."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.memory_plan import measured
from tests.benchmarks.random_store import synthetic_store


@pytest.mark.heavy
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
@pytest.mark.parametrize("mesh", [(1, 1), (1, 2), (2, 1)])
def test_estimate_and_measurement(tmp_path, mesh):
    synthetic_store(tmp_path / "store", 32768 + 8192, 256, 1 << 15, 8192)
    place = tmp_path / "one"
    place.mkdir()
    found = measured([json.dumps({"d_sae": 65536, "mesh": mesh})], mesh[0] * mesh[1], place)
    for guess, real in zip(found["estimated"], found["measured"], strict=True):
        assert guess == pytest.approx(real, rel=0.1)
