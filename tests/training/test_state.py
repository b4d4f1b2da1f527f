"""What a checkpoint holds: enough to make the next step, cut by features."""

import torch

from distsae.checkpoint import Shard
from distsae.losses import FiringStatistics, Underused
from distsae.parallel import MeshConfig, build_mesh
from distsae.training import OptimizerConfig, PlainEngine, SizeConfig, TrainConfig
from distsae.training.phases import Phases
from distsae.training.state import TrainingState
from distsae.training.thresholds import ThresholdTracker

from .samples import D_SAE, shard_on

MESH = build_mesh(MeshConfig(), 1, "cpu")
SHARDED = {
    *("W_enc", "W_dec", "b_enc", "firing.matches", "firing.tokens_since_fired", "underused.members"),
    *("threshold.total", "threshold.weight"),
    *(f"adam.{part}.{name}" for part in ("exp_avg", "exp_avg_sq") for name in ("W_enc", "W_dec", "b_enc")),
}
WHOLE = {
    *("b_dec", "firing.tokens", "adam.exp_avg.b_dec", "adam.exp_avg_sq.b_dec"),
    *(f"adam.step.{name}" for name in ("W_enc", "W_dec", "b_enc", "b_dec")),
}


def _state(optimizer=None, **changes):
    config = TrainConfig(store="s", out="o", sae=SizeConfig(d_sae=D_SAE, k=4), batch_tokens=64, **changes)
    shard = shard_on(MESH, torch.float32)
    return TrainingState(
        shard=shard,
        engine=PlainEngine(shard, MESH, optimizer or OptimizerConfig()),
        phases=Phases(config, 10, MESH, torch.device("cpu")),
        statistics=FiringStatistics(D_SAE, 100, 100),
        thresholds=ThresholdTracker(D_SAE),
        underused=Underused.none(D_SAE),
        d_sae=D_SAE,
    )


def test_every_tensor_has_its_place():
    tensors = _state().tensors()
    assert {name for name, value in tensors.items() if isinstance(value, Shard)} == SHARDED
    assert {name for name, value in tensors.items() if not isinstance(value, Shard)} == WHOLE
    for name in SHARDED:
        assert (tensors[name].offset, tensors[name].total, len(tensors[name].local)) == (0, D_SAE, D_SAE)


def test_moments_in_8_bits_have_scales():
    tensors = _state(OptimizerConfig(state="int8")).tensors()
    scales = {f"adam.{part}_scale.{name}" for part in ("exp_avg", "exp_avg_sq") for name in ("W_enc", "W_dec")}
    assert {name for name, value in tensors.items() if isinstance(value, Shard)} == SHARDED | scales
    assert tensors["adam.exp_avg.W_enc"].local.dtype == torch.uint8


def test_feature_choice_adds_quotas_credit_and_the_rehearsal():
    state = _state(allocation="feature_choice", quota_refresh=3)
    state.phases.prepare(0, state.statistics)
    tensors = state.tensors()
    sharded = {"quotas.per_token", "quotas.credit", "rehearsal.matches", "rehearsal.tokens_since_fired"}
    assert tensors.keys() - SHARDED - WHOLE == sharded | {"rehearsal.tokens"}
    for name in sharded:  # a row a feature, so that another mesh can read them
        assert (tensors[name].offset, tensors[name].total, len(tensors[name].local)) == (0, D_SAE, D_SAE)
    assert not isinstance(tensors["rehearsal.tokens"], Shard)
    assert state.phases.credit.credit is tensors["quotas.credit"].local


def test_filling_the_tensors_restores_the_run():
    state = _state()
    for value in state.tensors().values():
        (value.local if isinstance(value, Shard) else value).fill_(1)
    for parameter in state.shard.parameters():
        assert (parameter == 1).all()
    assert (state.statistics.matches == 1).all()
    assert state.underused.members.all()
    assert state.thresholds.thresholds().tolist() == [1.0] * D_SAE
    assert all((tensor == 1).all() for tensor in state.engine.state().values())
