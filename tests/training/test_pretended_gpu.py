"""Steps on a pretended GPU: no operation mixes tensors of both devices, and results are those on the CPU."""

from __future__ import annotations

import pytest
import torch

from distsae.allocation import FeatureSelector, MutualSelector, QuotaCredit, zipf_quotas
from distsae.kernels import REFERENCE
from distsae.losses import FiringStatistics, Underused
from distsae.model import FeatureShard
from distsae.parallel import MeshConfig, build_mesh
from distsae.training import Gradients, OptimizerConfig, PlainEngine, Selectors, forward_backward
from distsae.training.thresholds import ThresholdTracker
from tests.pretended_cuda import CUDA, pretended_cuda
from tests.training.dense_step import ALPHA, K_AUX
from tests.training.samples import D_IN, D_SAE, RULES, TOKENS, K, activations, mean_and_variance, selector_on

MESH = build_mesh(MeshConfig(), 1, "cpu")
STEPS = 3


def _trained(device, rule, prefilter, state):
    """Returns losses and norms, thresholds, and parameters after a few steps of two micro-batches."""
    single = torch.float32
    mean, variance = mean_and_variance(single)
    shard = FeatureShard(D_IN, D_SAE, range(D_SAE), mean, seed=3, kernels=REFERENCE, prefilter=prefilter)
    for name, parameter in shard.named_parameters():
        setattr(shard, name, torch.nn.Parameter(parameter.detach().to(device)))
    engine = PlainEngine(shard, MESH, OptimizerConfig(clip_norm=0.1, state=state))
    statistics, tracker = FiringStatistics(D_SAE, 1000, 2 * TOKENS, device), ThresholdTracker(D_SAE)
    selector, auxiliary = selector_on(MESH, rule), MutualSelector(K_AUX)
    credit = QuotaCredit(zipf_quotas(D_SAE, K, s=0.8, q=4.0).to(device), K)
    auxiliary.allowed = (torch.arange(D_SAE) % 3 == 0).to(device)
    numbers = []
    for step in range(STEPS):
        outcomes = []
        for part in range(2):
            if isinstance(selector, FeatureSelector):
                selector.grant(credit.pay(TOKENS))
            x = activations(2 * step + part, single).to(device)
            selectors = Selectors(selector, auxiliary)
            outcomes.append(forward_backward(shard, x, MESH, selectors, mean.to(device), variance, ALPHA))
            tracker.update(selector)
        numbers += [engine.update(Gradients.joined([found.gradients for found in outcomes]), 0.01)]
        numbers += [found.loss + found.aux_loss for found in outcomes]
        statistics.update(outcomes[-1].matches.feature, TOKENS, MESH.data)
        underused = Underused.measure(statistics, "aux_zipf", 0.5, MESH.feature)
        auxiliary.allowed = underused.members if underused.share else None
    return numbers, tracker.thresholds(), [parameter.detach().to("cpu") for parameter in shard.parameters()]


@pytest.mark.parametrize(("prefilter", "state"), [(False, "fp32"), (True, "bf16"), (True, "int8")])
@pytest.mark.parametrize("rule", RULES)
def test_steps_on_a_gpu_are_those_on_the_cpu(rule, prefilter, state):
    numbers, thresholds, parameters = _trained(torch.device("cpu"), rule, prefilter, state)
    with pretended_cuda():
        found = _trained(CUDA, rule, prefilter, state)
    assert found[0] == numbers
    assert torch.equal(found[1], thresholds)
    for parameter, expected in zip(found[2], parameters, strict=True):
        assert torch.equal(parameter, expected)
