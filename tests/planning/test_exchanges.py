"""Bytes and collectives of a planned step are those of a real one: a whole training step on real processes."""

from dataclasses import replace

import pytest
import torch

from distsae.parallel import GroupCollective, Mesh, MeshConfig
from distsae.planning.exchanges import all_reduce_bytes, bytes_received, exchanges, most_selection_bytes
from distsae.planning.step_shape import StepShape, shape_of, work
from distsae.training import (
    AuxiliaryConfig,
    SizeConfig,
    TrainConfig,
    initial_shard,
    initial_state,
    training_step,
)
from tests.distributed.processes import run_on_mesh

ALONE = StepShape(d_in=8, d_sae=100, tokens=64, k=4)
D_IN, TOKENS = 24, 256


def test_a_process_alone_exchanges_nothing():
    assert exchanges(ALONE) == []
    assert bytes_received(ALONE) == {}


def test_a_ring_sends_each_byte_nearly_twice():
    assert all_reduce_bytes(100, 1) == 0
    assert all_reduce_bytes(100, 4) == 150


def test_the_auxiliary_loss_is_a_second_reconstruction():
    plain, both = (bytes_received(replace(ALONE, feature=2, k_aux=k_aux)) for k_aux in (0, 4))
    assert both["reconstruction"] == 2 * plain["reconstruction"] == 2 * 64 * 8 * 4


def test_deepspeed_sums_matrices_and_gathers_rows():
    shape = replace(ALONE, data=4, engine="deepspeed")
    matrices = 4 * (2 * 100 * 8 + 100 + 8)
    found = bytes_received(shape)
    assert found["updated rows"] == 0.75 * matrices
    assert found["gradients"] == 2 * found["updated rows"]
    assert bytes_received(replace(shape, zero_stage=2))["gradients"] == found["updated rows"]


def _config(allocation, aux, data, feature):
    return TrainConfig(
        store="",
        out="",
        steps=20,
        batch_tokens=TOKENS,
        sae=SizeConfig(d_sae=300, k=8),
        allocation=allocation,
        aux=aux,
        auxiliary=AuxiliaryConfig(refresh_steps=1000),
        mesh=MeshConfig(data=data, feature=feature),
        init_scale=1.0,
    )


def _spent(mesh: Mesh, config: TrainConfig, steps: int) -> list[tuple[int, int]]:
    """Collectives and bytes of this rank in each of the last two steps."""
    mean = torch.zeros(D_IN)
    state = initial_state(config, initial_shard(config, mean, mesh, mean.device), mesh, mean, float(D_IN))
    groups = [group for group in (mesh.data, mesh.feature, mesh.world) if isinstance(group, GroupCollective)]
    if config.aux != "none":
        state.underused = replace(state.underused, members=torch.arange(len(mesh.features(300))) % 2 == 0, share=0.5)
    found = []
    for step in range(steps):
        x = torch.randn(TOKENS, D_IN, generator=torch.Generator().manual_seed(step))
        before = [(group.collectives, group.bytes_received) for group in groups]
        training_step(state, x.chunk(mesh.data.size)[mesh.data.rank])
        after = [(group.collectives, group.bytes_received) for group in groups]
        calls, received = (
            sum(new[part] - old[part] for new, old in zip(after, before, strict=True)) for part in (0, 1)
        )
        found.append((calls, received))
    return found[-2:]


@pytest.mark.parametrize("mesh", [(1, 2), (2, 1), (2, 2), (1, 4), (4, 1)])
@pytest.mark.parametrize(
    ("allocation", "aux"), [("mutual_choice", "none"), ("mutual_choice", "aux_zipf"), ("feature_choice", "none")]
)
def test_a_whole_step_exchanges_what_is_planned(allocation, aux, mesh):
    """Calls are equal. Bytes lie between those of the shortest selection and evenly spread matches, and the most that
    both may add; `tests/benchmarks/test_scaling.py` compares the others to the byte.
    """
    _assert_as_planned(_config(allocation, aux, *mesh), mesh)


@pytest.mark.parametrize("mesh", [(2, 1), (2, 2), (4, 1)])
def test_a_divided_update_exchanges_what_is_planned(mesh):
    config = _config("mutual_choice", "none", *mesh)
    config = replace(config, optimizer=replace(config.optimizer, divide_moments=True))
    assert "updated rows" in bytes_received(shape_of(config, D_IN))
    _assert_as_planned(config, mesh)


def test_a_divided_update_sends_new_rows_and_is_divided():
    shape = replace(ALONE, d_in=1024, d_sae=4096, data=4)
    divided = replace(shape, divide_moments=True)
    for gpu in (False, True):
        rows = bytes_received(replace(divided, gpu=gpu))["updated rows"]
        evenly = 0.75 * 4096 * (2 * 1024 + 1) * 4
        assert evenly <= rows < (1.01 if gpu else 1.15) * evenly  # blocks of 384 rows on a CPU
    for name in ("weights", "summed"):
        assert work(divided)[name] == work(shape)[name] / 4


def _assert_as_planned(config: TrainConfig, mesh: tuple[int, int]) -> None:
    shape = shape_of(config, D_IN)
    planned = exchanges(shape)
    found = [step for rank in run_on_mesh(_spent, mesh, config, 8) for step in rank]
    calls = sum(exchange.calls for exchange in planned)
    assert {step[0] for step in found} == {calls}
    least = sum(exchange.received for exchange in planned if exchange.name != "gradients")
    gradients = sum(exchange.received for exchange in planned if exchange.name == "gradients")
    even = (mesh[0] - 1) * 16 * shape.own_matches
    slack = shape.reconstructions * (most_selection_bytes(shape) - all_reduce_bytes(4 * 4099, shape.ranks))
    for _, received in found:
        assert received >= 0.999 * (least + gradients - even)
        assert received <= least + gradients + 2 * even + slack


@pytest.mark.parametrize("mesh", [(1, 2), (2, 2)])
def test_token_choice_exchanges_about_what_is_planned(mesh):
    config = _config("token_choice", "none", *mesh)
    planned = exchanges(shape_of(config, D_IN))
    for rank in run_on_mesh(_spent, mesh, config, 8):
        for calls, received in rank:
            assert calls == sum(exchange.calls for exchange in planned)
            assert received == pytest.approx(sum(exchange.received for exchange in planned), rel=0.15)
