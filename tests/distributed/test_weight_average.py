"""The average of the weights is the same on every mesh and with either engine, and does not change training."""

from __future__ import annotations

import pytest
import torch

from distsae.allocation import MutualSelector
from distsae.parallel import Mesh
from distsae.training import OptimizerConfig, PlainEngine, Selectors, forward_backward
from distsae.training.engines.deepspeed import DeepSpeedEngine
from distsae.training.engines.deepspeed_config import DeepSpeedConfig
from distsae.training.engines.weight_average import WeightAverage
from tests.distributed.processes import run_on_mesh
from tests.training.samples import TOKENS, K, activations, mean_and_variance, shard_on


def _train(mesh: Mesh, engine_name: str, apply: bool) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Returns weights and averages after eight steps; with `apply`, the shard has the averages after each step."""
    shard, config = shard_on(mesh, torch.float32), OptimizerConfig()
    deep = engine_name == "deepspeed"
    engine = DeepSpeedEngine(shard, mesh, config, DeepSpeedConfig()) if deep else PlainEngine(shard, mesh, config)
    average, (mean, variance) = WeightAverage(shard, 0.7), mean_and_variance(torch.float32)
    share = TOKENS // mesh.data.size
    for step in range(8):
        x = activations(step, torch.float32)[mesh.data.rank * share : (mesh.data.rank + 1) * share]
        outcome = forward_backward(shard, x, mesh, Selectors(MutualSelector(K)), mean, variance, 1 / 32)
        engine.update(outcome.gradients, 3e-3)
        average.update(step)
        if apply:
            expected = average.tensors()["average.b_dec"].clone()
            with average.applied():
                assert torch.equal(shard.b_dec, expected)
    found = {name: parameter.detach() for name, parameter in shard.named_parameters()}, average.tensors()
    for tensors in found:
        for name, tensor in tensors.items():
            tensors[name] = tensor.clone() if "b_dec" in name else torch.cat(mesh.feature.gather(tensor))
    return found


@pytest.mark.parametrize("engine", ["plain", "deepspeed"])
def test_every_mesh_and_engine_has_the_average_of_one_process(engine):
    if engine == "deepspeed":
        pytest.importorskip("deepspeed")
    ((_, expected),) = run_on_mesh(_train, (1, 1), "plain", False)
    for shape in ((1, 2), (2, 2), (1, 3)):
        ranks = run_on_mesh(_train, shape, engine, False)
        for weights, averages in ranks:
            assert not torch.equal(weights["W_enc"], averages["average.W_enc"])
            for name, tensor in expected.items():
                torch.testing.assert_close(averages[name], tensor, rtol=1e-4, atol=1e-5)
        for without, with_averages in zip(ranks, run_on_mesh(_train, shape, engine, True), strict=True):
            for expected_tensors, found in zip(without, with_averages, strict=True):
                assert all(torch.equal(found[name], tensor) for name, tensor in expected_tensors.items())
