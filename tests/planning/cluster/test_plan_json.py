"""The JSON of a plan has the keys that scripts rely on."""

import json

import pytest

from distsae.planning.cluster.plan_json import as_json
from tests.planning.cluster.samples import plan

KEYS = """mesh memory_gb_per_rank step_seconds step_parts tokens_per_second bytes_per_step store_bytes store_files
    bottleneck"""


def test_keys_and_sums():
    of = plan(gpus=64, max_inodes=100_000, producer_tokens_per_second=1e4)
    found = json.loads(as_json(of))
    assert set(KEYS.split()) <= set(found)
    assert found["times"] == "computed"
    assert found["mesh"] == {"data": of.chosen.mesh.data, "feature": of.chosen.mesh.feature}
    assert found["bytes_per_step"] == pytest.approx(sum(one["received"] for one in found["exchanges"]))
    assert found["collectives_per_step"] == sum(one["calls"] for one in found["exchanges"])
    waiting = max(found["step_meanwhile"].values())
    assert found["step_seconds"] == pytest.approx(max(sum(found["step_parts"].values()), waiting))
    assert found["tokens_per_second"] == pytest.approx(65_536 / found["step_seconds"])
    assert len(found["other_meshes"]) == 6
    assert found["store_advice"]["chunk_rows"] > 8192
    assert found["producers"] >= 1
