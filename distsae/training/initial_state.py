"""The state that a run starts with, or that a checkpoint fills: random features, or those of an existing SAE.

A finished SAE works on raw activations, while training sees normalised ones. So the weights of an SAE are adapted to
the normalisation of the store that the run trains on, which need not be the one that the SAE was trained with.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation import MutualSelector
from distsae.batches import Normalisation
from distsae.errors import WrongInput
from distsae.kernels import kernels_for, prefilter_wanted
from distsae.losses import CollapseAlarms, FiringStatistics, Underused
from distsae.model import SAE, FeatureShard, selection_mb_on
from distsae.parallel import Mesh
from distsae.training.config import TrainConfig
from distsae.training.engines import DeepSpeedEngine, Engine, PlainEngine, WeightAverage
from distsae.training.metrics import Meter, TrainingClock
from distsae.training.phases import Phases
from distsae.training.state import TrainingState
from distsae.training.thresholds import ThresholdTracker

__all__ = ["begin_from", "initial_shard", "initial_state", "sae_to_begin_from"]

_ROWS = 1 << 12


def initial_shard(config: TrainConfig, mean: Tensor, mesh: Mesh, device: torch.device) -> FeatureShard:
    """Returns this rank's features with random weights, which follow from the seed.

    Args:
        config: configuration of the run.
        mean: mean of the normalised activations, `[d_in]`, the initial `b_dec`.
        mesh: the mesh, as this rank sees it.
        device: device of the shard.
    """
    return FeatureShard(
        mean.shape[0],
        config.sae.d_sae,
        mesh.features(config.sae.d_sae),
        mean,
        config.seed,
        selection_mb_on(device.type, config.tokens_at_once, config.selection_mb),
        kernels_for(config.kernels, device),
        prefilter_wanted(config.prefilter, device),
        device,
    )


def initial_state(
    config: TrainConfig,
    shard: FeatureShard,
    mesh: Mesh,
    mean: Tensor,
    variance: float,
    clock: TrainingClock | None = None,
) -> TrainingState:
    """Returns the state of a run before its first step.

    Args:
        config: configuration of the run, with `steps`.
        shard: this rank's features with their initial weights; change them only before this call, as engines and
            averages copy them.
        mesh: the mesh, as this rank sees it.
        mean: mean of the normalised activations, `[d_in]`, on the shard's device.
        variance: total variance of the normalised activations, `E ||x - mean||^2`.
        clock: clock of the training time; by default one that starts now.
    """
    assert config.steps is not None
    features = len(shard.features)
    auxiliary = config.auxiliary
    tokens = config.steps * config.batch_tokens
    device = shard.b_dec.device
    return TrainingState(
        config=config,
        mesh=mesh,
        mean=mean,
        variance=variance,
        shard=shard,
        engine=_engine(config, shard, mesh),
        phases=Phases(config, config.steps, mesh, device),
        statistics=FiringStatistics(features, auxiliary.window(tokens), auxiliary.dead_after(tokens), device),
        thresholds=ThresholdTracker(features, device),
        underused=Underused.none(features),
        auxiliary=MutualSelector(config.sae.k * auxiliary.k_per_k),
        meter=Meter(config.batch_tokens, clock if clock is not None else TrainingClock()),
        alarms=CollapseAlarms(config.alarms),
        average=WeightAverage(shard, config.ema_decay) if config.ema_decay is not None else None,
    )


def _engine(config: TrainConfig, shard: FeatureShard, mesh: Mesh) -> Engine:
    if config.engine == "plain":
        return PlainEngine(shard, mesh, config.optimizer, config.seed)
    return DeepSpeedEngine(shard, mesh, config.optimizer, config.deepspeed)


@torch.no_grad()
def begin_from(path: str, shard: FeatureShard, normalisation: Normalisation, rows_at_once: int = _ROWS) -> None:
    """Fills a shard with its features of the SAE at `path`.

    Decoder rows are brought to unit norm; their norm moves into the encoder row and bias, so that the reconstruction
    stays the same. The file is mapped, not read whole: a process reads only its own rows.

    Args:
        path: folder of an SAE, or of the run that trained it.
        shard: this rank's features, on any device.
        normalisation: normalisation of the activations that the shard will see.
        rows_at_once: number of rows that are copied at once.

    Raises:
        WrongInput: there is no SAE at `path`, it has another shape, or a decoder row has no direction.
        TornData: a file is damaged.
    """
    sae = sae_to_begin_from(path, shard.W_enc.shape[1], shard.d_sae, token=normalisation.token)
    for first in range(0, len(shard.features), rows_at_once):
        features = shard.features[first : first + rows_at_once]
        chosen = slice(features.start, features.stop)
        rows = sae.W_dec[chosen].float()
        norm = torch.linalg.vector_norm(rows, dim=1)
        if not bool((norm.isfinite() & (norm > 0)).all()):
            raise WrongInput(f"`init` (={path}) must have decoder rows of finite, positive norm; train it again")
        parameters: dict[str, Tensor] = {
            "W_enc": sae.W_enc[:, chosen].t().float() * norm[:, None],
            "W_dec": rows / norm[:, None],
            "b_enc": sae.b_enc[chosen].float() * norm * normalisation.scale,
        }
        for name, values in parameters.items():
            getattr(shard, name)[first : first + len(features)] = values.to(shard.b_dec.device)
    shard.b_dec.copy_(normalisation.apply(sae.b_dec.to(torch.float32, copy=True)))


def sae_to_begin_from(path: str, d_in: int, d_sae: int, *, token: bool) -> SAE:
    """Returns the SAE at `path`, with weights that are mapped and not read.

    Args:
        path: folder of an SAE, or of the run that trained it.
        d_in: width of the activations that the run trains on.
        d_sae: number of features of the run.
        token: whether the run normalises each row.

    Raises:
        WrongInput: there is no SAE at `path`, it has another shape, or only one of the two normalises each row.
        TornData: a file is damaged.
    """
    sae = SAE.load(path)
    if (sae.cfg.d_in, sae.cfg.d_sae) != (d_in, d_sae):
        raise WrongInput(
            f"`init` (={path}) must be an SAE of d_in {d_in} and d_sae {d_sae}; got d_in {sae.cfg.d_in} and d_sae "
            f"{sae.cfg.d_sae}; choose another SAE, or change `hook` or `sae.d_sae`"
        )
    if sae.normalises_rows != token:
        here, there = ("token", sae.cfg.normalise) if token else ("not token", "token")
        raise WrongInput(
            f"`init` (={path}) must be an SAE of the same `normalise` where one is token; got {there} there and {here} "
            "here; choose another SAE, or give its `normalise`"
        )
    return sae
