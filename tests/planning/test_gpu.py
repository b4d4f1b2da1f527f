"""What libraries take on a GPU is in the plan; NCCL has a communicator for each axis and for all ranks."""

import pytest

from distsae.parallel import MeshConfig
from distsae.planning import memory_items, peak
from distsae.planning.gpu import CONTEXT_BYTES, gpu_items
from distsae.planning.items import MOMENTS
from tests.planning.samples import FACTS, GPU, run


def _sizes(data, feature, facts=GPU):
    return {item.name: item.bytes for item in gpu_items(run(mesh=MeshConfig(data=data, feature=feature)), facts)}


def test_a_cpu_has_none_of_it():
    assert _sizes(2, 4, FACTS) == {}


@pytest.mark.parametrize(("data", "feature", "communicators"), [(1, 1, 0), (1, 8, 2), (8, 1, 2), (2, 4, 3)])
def test_nccl_has_buffers_for_each_group_of_several_ranks(data, feature, communicators):
    one = _sizes(1, 2)["NCCL buffers, estimated"] // 2
    assert 500 << 20 < one < 1 << 30
    assert _sizes(data, feature)["NCCL buffers, estimated"] == communicators * one


def test_it_is_there_at_every_moment():
    config = run(mesh=MeshConfig(feature=2))
    items = memory_items([config], GPU)
    without = [item for item in items if item not in list(gpu_items(config, GPU))]
    taken = sum(item.bytes for item in gpu_items(config, GPU) if item.where == "device")
    assert taken > CONTEXT_BYTES
    for moment in MOMENTS:
        assert peak(items, "device", [moment]) - peak(without, "device", [moment]) == taken


def test_members_of_a_sweep_share_it():
    one, two = (
        [item.bytes for item in memory_items([run()] * members, GPU) if item.name.startswith("CUDA context")]
        for members in (1, 2)
    )
    assert one == two == [CONTEXT_BYTES]
