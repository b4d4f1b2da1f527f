"""The mesh never shows: losses, gradient norms and weights of whole runs equal those of one process."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from distsae.allocation import FeatureSelector, MutualSelector
from distsae.losses import FiringStatistics, Underused
from distsae.parallel import Mesh
from distsae.training import OptimizerConfig, PlainEngine, training_step
from tests.training.samples import D_SAE, TOKENS, K, activations, credit, mean_and_variance, selector_on, shard_on

from .processes import MESHES, run_on_mesh

METHODS = ("token_choice", "mutual_choice", "mutual_choice with aux_zipf", "feature_choice")


@dataclass
class Trace:
    """What a run left: numbers by step, weights, who fires."""

    losses: list[float]
    aux_losses: list[float]
    norms: list[float]
    weights: dict[str, Tensor]
    density: Tensor
    used_auxiliary: int

    def furthest(self, other: Trace) -> float:
        """The largest difference, relative to the size of what differs."""
        mine, others = (
            [
                *(torch.tensor(x, dtype=torch.float64) for x in (t.losses, t.aux_losses, t.norms)),
                *t.weights.values(),
                t.density,
            ]
            for t in (self, other)
        )
        return max(
            float((a - b).abs().max() / max(float(b.abs().max()), 1e-30)) for a, b in zip(mine, others, strict=True)
        )


def _train(mesh: Mesh, method: str, steps: int, dtype: torch.dtype, wrong_axis: bool = False) -> Trace:
    rule, _, aux = method.partition(" with ")
    shard, (mean, variance) = shard_on(mesh, dtype), mean_and_variance(dtype)
    swapped = replace(mesh, data=mesh.feature, feature=mesh.data)
    engine = PlainEngine(shard, swapped if wrong_axis else mesh, OptimizerConfig(clip_norm=0.5))
    selector, purse, features = selector_on(mesh, rule), credit(), mesh.features(D_SAE)
    statistics = FiringStatistics(len(features), window_tokens=8 * TOKENS, dead_after_tokens=4 * TOKENS)
    underused, auxiliary = Underused.none(len(features)), MutualSelector(2 * K)
    share = TOKENS // mesh.data.size
    trace = Trace([], [], [], {}, torch.zeros(0), 0)
    for step in range(steps):
        if isinstance(selector, FeatureSelector):
            selector.grant(purse.pay(TOKENS)[features.start : features.stop])
        selectors = [selector]
        if underused.share > 0:
            auxiliary.allowed = underused.members
            selectors.append(auxiliary)
            trace.used_auxiliary += 1
        x = activations(step, dtype)[mesh.data.rank * share : (mesh.data.rank + 1) * share]
        outcome = training_step(shard, x, mesh, D_SAE, selectors, mean, variance, 1 / 32)
        trace.norms.append(engine.update(outcome.gradients, 3e-3))
        trace.losses.append(outcome.loss)
        trace.aux_losses.append(outcome.aux_loss)
        statistics.update(outcome.matches.feature, TOKENS, mesh.data)
        if aux and step % 8 == 7:
            underused = Underused.measure(statistics, "aux_zipf", 0.5, mesh.feature)
    trace.weights = {
        name: parameter.detach().clone() if name == "b_dec" else torch.cat(mesh.feature.gather(parameter.detach()))
        for name, parameter in shard.named_parameters()
    }
    trace.density = torch.cat(mesh.feature.gather(statistics.density()))
    return trace


@pytest.mark.parametrize("method", METHODS)
def test_every_mesh_trains_as_one_process_does(method):
    (alone,) = run_on_mesh(_train, (1, 1), method, 30, torch.float64)
    assert alone.losses[-1] < 0.9 * alone.losses[0]
    assert (alone.used_auxiliary > 10) == (method == "mutual_choice with aux_zipf")
    for shape in MESHES:
        ranks = run_on_mesh(_train, shape, method, 30, torch.float64)
        for rank in ranks:
            assert rank.furthest(alone) < 1e-9, shape
        assert all(torch.equal(rank.weights["b_dec"], ranks[0].weights["b_dec"]) for rank in ranks)
        assert all(rank.losses == ranks[0].losses and rank.norms == ranks[0].norms for rank in ranks)


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (2, 2)], ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_the_comparison_sees_gradients_summed_over_the_wrong_axis(shape):
    (alone,) = run_on_mesh(_train, (1, 1), "mutual_choice", 5, torch.float64)
    wrong = run_on_mesh(_train, shape, "mutual_choice", 5, torch.float64, True)
    assert min(rank.furthest(alone) for rank in wrong) > 1e-3


def test_in_single_precision_meshes_agree_to_rounding():
    """Measured: 2e-7. A product's last bit depends on its shape, so a near-tie at the cut could flip a match."""
    (alone,) = run_on_mesh(_train, (1, 1), "mutual_choice", 10, torch.float32)
    for shape in MESHES:
        for rank in run_on_mesh(_train, shape, "mutual_choice", 10, torch.float32):
            assert rank.furthest(alone) < 1e-5, shape
