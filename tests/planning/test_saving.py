"""The copy for a checkpoint is as large as its state, divided among data ranks; without a copy training waits."""

import pytest
import torch

from distsae.checkpoint import Ranks
from distsae.checkpoint.snapshot import HostCopies, Snapshot
from distsae.parallel import MeshConfig, build_mesh
from distsae.planning import memory_items
from distsae.planning.items import STEPPING
from distsae.planning.saving import COPY, saving_items
from distsae.training import CheckpointConfig, OptimizerConfig
from distsae.training.initial_state import initial_shard, initial_state
from tests.planning.samples import FACTS, GPU, run

MESH = build_mesh(MeshConfig(), 1, "cpu")
WAITING = CheckpointConfig(asynchronous=False)


def _items(config, facts=FACTS, features=4096):
    return {item.name: item for item in saving_items(config, facts, features)}


def _copied(config):
    mean = torch.zeros(FACTS.d_in)
    shard = initial_shard(config, mean, MESH, torch.device("cpu"))
    state = initial_state(config, shard, MESH, mean, variance=1.0)
    state.phases.prepare(0, state.statistics)
    copies = HostCopies()
    Snapshot.take(state.tensors(), Ranks(None), copies)
    return copies.bytes


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema_decay": 0.9},
        {"optimizer": OptimizerConfig(state="bf16")},
        {"optimizer": OptimizerConfig(state="int8")},
        {"allocation": "feature_choice"},
        {"allocation": "feature_choice", "quota_refresh": 5},
    ],
)
def test_the_copy_is_as_large_as_the_state_of_a_checkpoint(changes):
    config = run(steps=10, **changes)
    assert _items(config)[COPY].bytes == pytest.approx(_copied(config), abs=1024)


def test_data_ranks_copy_their_share():
    one, four = (_items(run(mesh=MeshConfig(data=ranks)))[COPY].bytes for ranks in (1, 4))
    assert four == pytest.approx(one / 4, rel=0.01)


def test_the_copy_is_in_the_host_s_memory_while_training_goes_on():
    for facts in (FACTS, GPU):
        copy = _items(run(), facts)[COPY]
        assert (copy.where, copy.when) == ("host", STEPPING)


def test_a_run_that_waits_for_its_checkpoints_needs_no_copy():
    assert _items(run(checkpoint=WAITING)) == {}
    assert set(_items(run(checkpoint=WAITING), GPU)) == {"blocks of rows on their way to a file"}


def test_deepspeed_gathers_one_moment_at_a_time():
    zero = {"engine": "deepspeed", "mesh": MeshConfig(data=2)}
    matrix = 4 * 4096 * FACTS.d_in
    gathered = _items(run(**zero))["DeepSpeed: a moment gathered, to be saved"]
    assert (gathered.bytes, gathered.when) == (matrix, ("save",))
    shares = _items(run(checkpoint=WAITING, **zero))["DeepSpeed: this rank's share of the moments, to be saved"]
    assert shares.bytes == 4 * matrix // 2  # two moments of two matrices, on two data ranks
    assert COPY not in _items(run(checkpoint=WAITING, **zero))


def test_members_of_a_sweep_are_copied_into_the_same_memory():
    one, two = (
        [item.bytes for item in memory_items([run()] * members, FACTS) if item.name == COPY] for members in (1, 2)
    )
    assert one == two
