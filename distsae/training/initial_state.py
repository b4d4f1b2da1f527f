"""The state that a run begins with, or that a checkpoint fills."""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation import MutualSelector
from distsae.kernels import kernels_for, prefilter_wanted
from distsae.losses import FiringStatistics, Underused
from distsae.model import FeatureShard
from distsae.parallel import Mesh
from distsae.training.config import TrainConfig
from distsae.training.engines.deepspeed import DeepSpeedEngine
from distsae.training.engines.plain import PlainEngine
from distsae.training.engines.protocol import Engine
from distsae.training.engines.weight_average import WeightAverage
from distsae.training.phases import Phases
from distsae.training.state import TrainingState
from distsae.training.thresholds import ThresholdTracker

__all__ = ["initial_shard", "initial_state"]


def initial_shard(config: TrainConfig, mean: Tensor, mesh: Mesh, device: torch.device) -> FeatureShard:
    """Returns this rank's features with the seed's random weights.

    Args:
        config: the run.
        mean: of the normalised activations, which `b_dec` begins with, `[d_in]`.
        mesh: this process's place.
        device: of the shard.
    """
    return FeatureShard(
        mean.shape[0],
        mesh.features(config.sae.d_sae),
        mean.cpu(),
        config.seed,
        config.selection_mb,
        kernels_for(config.kernels, device),
        prefilter_wanted(config.prefilter, device),
    ).to(device)


def initial_state(config: TrainConfig, shard: FeatureShard, mesh: Mesh) -> TrainingState:
    """Returns the state of a run that has not stepped yet.

    Args:
        config: the run, with `steps`.
        shard: its first weights; an engine may look at them now.
        mesh: this process's place.
    """
    assert config.steps is not None
    features = len(shard.features)
    auxiliary = config.auxiliary
    device = shard.b_dec.device
    return TrainingState(
        shard=shard,
        engine=_engine(config, shard, mesh),
        phases=Phases(config, config.steps, mesh, device),
        statistics=FiringStatistics(features, auxiliary.window_tokens, auxiliary.dead_after_tokens, device),
        thresholds=ThresholdTracker(features),
        underused=Underused.none(features),
        d_sae=config.sae.d_sae,
        auxiliary=MutualSelector(config.sae.k * auxiliary.k_per_k),
        average=WeightAverage(shard, config.ema_decay) if config.ema_decay is not None else None,
    )


def _engine(config: TrainConfig, shard: FeatureShard, mesh: Mesh) -> Engine:
    if config.engine == "plain":
        return PlainEngine(shard, mesh, config.optimizer, config.seed)
    return DeepSpeedEngine(shard, mesh, config.optimizer, config.deepspeed)
