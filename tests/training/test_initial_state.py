"""The initial state: its parts are those that the config asks for, its weights follow from the seed."""

from __future__ import annotations

import torch

from distsae.parallel import MeshConfig, build_mesh
from distsae.training import OptimizerConfig, PlainEngine, SizeConfig, TrainConfig
from distsae.training.initial_state import initial_shard, initial_state

ALONE = build_mesh(MeshConfig(), 1, "cpu")


def _config(**changes: object) -> TrainConfig:
    return TrainConfig(store="s", out="o", steps=5, sae=SizeConfig(d_sae=32, k=2), **changes)


def test_the_state_has_the_parts_that_the_config_asks_for():
    config = _config(ema_decay=0.9, optimizer=OptimizerConfig(state="bf16"))
    shard = initial_shard(config, torch.arange(6.0), ALONE, torch.device("cpu"))
    state = initial_state(config, shard, ALONE, torch.zeros(6), 1.0)
    assert isinstance(state.engine, PlainEngine)
    assert state.average is not None
    assert torch.equal(shard.b_dec.detach(), torch.arange(6.0))
    tensors = state.tensors()
    assert tensors["W_enc"].total == 32
    assert tensors["adam.exp_avg.W_enc"].local.dtype == torch.bfloat16
    assert initial_state(_config(), shard, ALONE, torch.zeros(6), 1.0).average is None


def test_weights_follow_from_the_seed():
    def weights(seed: int) -> torch.Tensor:
        return initial_shard(_config(seed=seed), torch.zeros(6), ALONE, torch.device("cpu")).W_dec.detach()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
