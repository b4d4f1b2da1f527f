"""Short runs that differ only in mesh and engine, and the differences between their results."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.allocation import FeatureSelector, MutualSelector
from distsae.losses import FiringStatistics, Underused
from distsae.model import FeatureShard
from distsae.parallel import Mesh
from distsae.training import OptimizerConfig, PlainEngine, Selectors, forward_backward
from distsae.training.engines.deepspeed import DeepSpeedEngine
from distsae.training.engines.deepspeed_config import DeepSpeedConfig
from distsae.training.engines.protocol import Engine
from tests.distributed.faults import CHECKS, Fault, planted
from tests.training.samples import D_IN, D_SAE, TOKENS, K, activations, credit, mean_and_variance, selector_on

__all__ = ["Distance", "ShortRun", "Trace", "traced"]


@dataclass(frozen=True)
class ShortRun:
    """A run, apart from its mesh.

    Args:
        rule: allocation rule.
        steps: number of optimizer steps.
        dtype: dtype of weights and activations.
        rho: `rho` of `aux_zipf`; None for no auxiliary loss.
        prefilter: whether scores are certified, so that they do not depend on how a batch is split.
        clip_norm: largest norm of the gradients; None for no clipping.
        decoder_rate: learning rate of the decoder rows, as a multiple of that of everything else.
        zero: settings of the deepspeed engine; None for the plain engine.
        fault: fault that is planted into the engine.
        unchecked: checks of the deepspeed engine that are switched off with a fault.
        first: number of the first batch.
    """

    rule: str
    steps: int = 30
    dtype: torch.dtype = torch.float64
    rho: float | None = None
    prefilter: bool = False
    clip_norm: float | None = 0.5
    decoder_rate: float = OptimizerConfig().decoder_rate
    zero: DeepSpeedConfig | None = None
    fault: Fault = "none"
    unchecked: tuple[str, ...] = CHECKS
    first: int = 0


@dataclass(frozen=True)
class Distance:
    """Largest differences between two runs, each relative to the largest such number of the second.

    Args:
        losses: difference of the losses, main or auxiliary.
        norms: difference of the gradient norms.
        weights: difference of the weights at the end.
        matches: number of matches of the first run that the second lacks, over all steps.
    """

    losses: float
    norms: float
    weights: float
    matches: int

    @property
    def largest(self) -> float:
        """Largest relative difference."""
        return max(self.losses, self.norms, self.weights)


@dataclass
class Trace:
    """The results of a run.

    Args:
        losses: main loss of each step.
        aux_losses: auxiliary loss of each step; 0 where `U` was empty.
        norms: gradient norm of each step.
        matches: matches of each step over all ranks, as sorted numbers `token * D_SAE + feature`.
        weights: weights of all features at the end.
    """

    losses: list[float]
    aux_losses: list[float]
    norms: list[float]
    matches: list[Tensor]
    weights: dict[str, Tensor]

    def distance(self, other: Trace) -> Distance:
        """Returns the differences from another run."""
        losses = _difference(_fp64(self.losses), _fp64(other.losses))
        aux_losses = _difference(_fp64(self.aux_losses), _fp64(other.aux_losses))
        norms = _difference(_fp64(self.norms), _fp64(other.norms))
        weights = max(_difference(tensor, other.weights[name]) for name, tensor in self.weights.items())
        missing = 0
        for matches, matches_of_other in zip(self.matches, other.matches, strict=True):
            missing += int((~torch.isin(matches, matches_of_other)).sum())
        return Distance(max(losses, aux_losses), norms, weights, missing)


def _fp64(numbers: list[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def _difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / max(float(expected.abs().max()), 1e-30))


def traced(mesh: Mesh, run: ShortRun) -> Trace:
    """Trains on this mesh and gathers the results. Collective."""
    with planted(run.fault, run.unchecked):
        return _traced(mesh, run)


def _traced(mesh: Mesh, run: ShortRun) -> Trace:
    mean, variance = mean_and_variance(run.dtype)
    features = mesh.features(D_SAE)
    shard = FeatureShard(D_IN, D_SAE, features, mean, seed=3, prefilter=run.prefilter).to(run.dtype)
    engine = _engine(shard, mesh, run)
    selector, quotas = selector_on(mesh, run.rule), credit()
    statistics = FiringStatistics(len(features), window_tokens=8 * TOKENS, dead_after_tokens=4 * TOKENS)
    underused, auxiliary = Underused.none(len(features)), MutualSelector(2 * K)
    share = TOKENS // mesh.data.size
    trace = Trace([], [], [], [], {})
    for step in range(run.steps):
        if isinstance(selector, FeatureSelector):
            selector.grant(quotas.pay(TOKENS)[features.start : features.stop])
        selectors = Selectors(selector)
        if underused.share > 0:
            auxiliary.allowed = underused.members
            selectors = Selectors(selector, auxiliary)
        x = activations(run.first + step, run.dtype)[mesh.data.rank * share : (mesh.data.rank + 1) * share]
        outcome = forward_backward(shard, x, mesh, selectors, mean, variance, 1 / 32)
        trace.norms.append(engine.update(outcome.gradients, 3e-3))
        trace.losses.append(outcome.loss)
        trace.aux_losses.append(outcome.aux_loss)
        found = outcome.matches
        pairs = (found.token + mesh.data.rank * share) * D_SAE + found.feature + features.start
        trace.matches.append(torch.cat(mesh.world.gather(pairs)).sort().values)
        statistics.update(found.feature, TOKENS, mesh.data)
        if run.rho is not None and step % 8 == 7:
            underused = Underused.measure(statistics, "aux_zipf", run.rho, mesh.feature)
    trace.weights = {
        name: parameter.detach().clone() if name == "b_dec" else torch.cat(mesh.feature.gather(parameter.detach()))
        for name, parameter in shard.named_parameters()
    }
    return trace


def _engine(shard: FeatureShard, mesh: Mesh, run: ShortRun) -> Engine:
    config = OptimizerConfig(clip_norm=run.clip_norm, decoder_rate=run.decoder_rate)
    if run.zero is None:
        return PlainEngine(shard, mesh, config)
    return DeepSpeedEngine(shard, mesh, config, run.zero)
