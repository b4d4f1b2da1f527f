"""Short runs that differ in mesh and engine alone, and how far two of them are apart."""

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

__all__ = ["Distance", "RunOf", "Trace", "traced"]


@dataclass(frozen=True)
class RunOf:
    """A run, but for the mesh.

    Args:
        rule: the allocation.
        steps: how many.
        dtype: of weights and activations.
        rho: that of `aux_zipf`; None is without an auxiliary loss.
        prefilter: with certified scores, which do not depend on how a batch is cut.
        clip_norm: of the optimizer.
        zero: of the deepspeed engine; None is the plain engine.
        fault: what is wrong with the engine.
        unchecked: what the deepspeed engine then does not check.
        first: number of its first batch.
    """

    rule: str
    steps: int = 30
    dtype: torch.dtype = torch.float64
    rho: float | None = None
    prefilter: bool = False
    clip_norm: float | None = 0.5
    zero: DeepSpeedConfig | None = None
    fault: Fault = "none"
    unchecked: tuple[str, ...] = CHECKS
    first: int = 0


@dataclass(frozen=True)
class Distance:
    """Largest differences between two runs, each relative to the largest such number of the second."""

    losses: float
    norms: float
    weights: float
    matches: int
    """How many matches of one run the other lacks, over all steps."""

    @property
    def largest(self) -> float:
        """Of the differences of numbers."""
        return max(self.losses, self.norms, self.weights)


@dataclass
class Trace:
    """What a run left.

    Args:
        losses: by step.
        aux_losses: by step; 0 where `U` was empty.
        norms: of the gradients, by step.
        matches: by step, sorted numbers of the pairs of the global batch.
        weights: of all features, at the end.
    """

    losses: list[float]
    aux_losses: list[float]
    norms: list[float]
    matches: list[Tensor]
    weights: dict[str, Tensor]

    def distance(self, other: Trace) -> Distance:
        losses, aux_losses, norms = (
            _apart(torch.tensor(mine, dtype=torch.float64), torch.tensor(others, dtype=torch.float64))
            for mine, others in (
                (self.losses, other.losses),
                (self.aux_losses, other.aux_losses),
                (self.norms, other.norms),
            )
        )
        weights = max(_apart(tensor, other.weights[name]) for name, tensor in self.weights.items())
        flipped = sum(
            int((~torch.isin(mine, others)).sum()) for mine, others in zip(self.matches, other.matches, strict=True)
        )
        return Distance(max(losses, aux_losses), norms, weights, flipped)


def _apart(mine: Tensor, others: Tensor) -> float:
    return float((mine - others).abs().max() / max(float(others.abs().max()), 1e-30))


def traced(mesh: Mesh, run: RunOf) -> Trace:
    """Trains on this mesh and gathers what is to be compared; every rank calls it."""
    with planted(run.fault, run.unchecked):
        return _traced(mesh, run)


def _traced(mesh: Mesh, run: RunOf) -> Trace:
    mean, variance = mean_and_variance(run.dtype)
    features = mesh.features(D_SAE)
    shard = FeatureShard(D_IN, D_SAE, features, mean, seed=3, prefilter=run.prefilter).to(run.dtype)
    engine = _engine(shard, mesh, run)
    selector, purse = selector_on(mesh, run.rule), credit()
    statistics = FiringStatistics(len(features), window_tokens=8 * TOKENS, dead_after_tokens=4 * TOKENS)
    underused, auxiliary = Underused.none(len(features)), MutualSelector(2 * K)
    share = TOKENS // mesh.data.size
    trace = Trace([], [], [], [], {})
    for step in range(run.steps):
        if isinstance(selector, FeatureSelector):
            selector.grant(purse.pay(TOKENS)[features.start : features.stop])
        selectors = [selector]
        if underused.share > 0:
            auxiliary.allowed = underused.members
            selectors.append(auxiliary)
        x = activations(run.first + step, run.dtype)[mesh.data.rank * share : (mesh.data.rank + 1) * share]
        outcome = forward_backward(shard, x, mesh, Selectors(*selectors), mean, variance, 1 / 32)
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


def _engine(shard: FeatureShard, mesh: Mesh, run: RunOf) -> Engine:
    config = OptimizerConfig(clip_norm=run.clip_norm)
    if run.zero is None:
        return PlainEngine(shard, mesh, config)
    return DeepSpeedEngine(shard, mesh, config, run.zero)
