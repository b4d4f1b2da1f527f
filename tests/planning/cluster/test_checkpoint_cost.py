"""A checkpoint has the bytes that a run saves, and each machine writes its share."""

from dataclasses import replace

import pytest

from distsae.parallel import MeshConfig
from distsae.planning.cluster.checkpoint_cost import checkpoint_cost
from distsae.planning.cluster.hardware import HARDWARE
from distsae.planning.saving import COPY, saving_items
from distsae.training import CheckpointConfig, OptimizerConfig
from tests.planning.samples import GPU, run


def test_bytes_are_those_that_all_ranks_copy():
    config = run(4096, mesh=MeshConfig(data=2, feature=4))
    cost = checkpoint_cost(config, GPU.d_in, HARDWARE["h100"], 1.0)
    (copied,) = [item.bytes for item in saving_items(config, GPU, 1024) if item.name == COPY]
    assert cost.bytes == pytest.approx(8 * copied, rel=0.01)
    small = replace(config, optimizer=OptimizerConfig(state="int8"))
    assert checkpoint_cost(small, GPU.d_in, HARDWARE["h100"], 1.0).bytes < 0.6 * cost.bytes


def test_it_is_in_time_if_it_is_written_before_the_next():
    config = run(1 << 20, mesh=MeshConfig(feature=16), checkpoint=CheckpointConfig(every=10, keep_last=3))
    machine = replace(HARDWARE["h100"], disk=1e9)
    cost = checkpoint_cost(config, 4096, machine, 1.0)
    assert cost.seconds == pytest.approx(cost.bytes / 2 / 1e9)  # two machines of eight
    assert cost.interval == 10.0
    assert cost.kept == 3 * cost.bytes
    assert not cost.in_time
    assert checkpoint_cost(config, 4096, machine, 100.0).in_time
    assert checkpoint_cost(config, 4096, HARDWARE["cpu"], 1.0).copying > 0
