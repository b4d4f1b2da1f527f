"""The plain statement of a whole update, against the engine that goes block by block."""

from dataclasses import replace

import pytest
import torch

from distsae.allocation import MutualSelector
from distsae.kernels import CPU
from distsae.kernels.plain_update import plain_update
from distsae.model import FeatureShard
from distsae.parallel import MeshConfig, build_mesh
from distsae.training import OptimizerConfig, PlainEngine, Selectors, forward_backward
from tests.training.dense_step import ALPHA
from tests.training.samples import D_IN, D_SAE, K, activations, mean_and_variance

MESH = build_mesh(MeshConfig(), 1, "cpu")


@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("auxiliary", [None, MutualSelector(K, torch.arange(D_SAE) % 3 == 0)], ids=["none", "aux"])
def test_equals_the_update_in_blocks(clip_norm, auxiliary):
    mean, variance = mean_and_variance(torch.float32)
    found = []
    for kernels in (replace(CPU, update_rows=plain_update), CPU):
        shard = FeatureShard(D_IN, D_SAE, range(D_SAE), mean, 3, kernels=kernels, prefilter=True)
        engine = PlainEngine(shard, MESH, OptimizerConfig(clip_norm=clip_norm, eps=1e-5), block_bytes=7 * D_IN * 4)
        norms = []
        for step in range(3):
            x = activations(step, torch.float32)
            selectors = Selectors(MutualSelector(K), auxiliary)
            outcome = forward_backward(shard, x, MESH, selectors, mean, variance, ALPHA)
            norms.append(engine.update(outcome.gradients, 0.01))
        found.append([torch.tensor(norms), *shard.parameters(), *engine.tensors().values(), shard.prefilter_rows()])
    for whole, in_blocks in zip(*found, strict=True):
        loose = 2**-6 if whole.dtype == torch.bfloat16 else 1e-5  # a bias in two bf16 parts
        torch.testing.assert_close(whole, in_blocks, rtol=loose, atol=max(loose, 1e-6) if loose > 1e-3 else 1e-6)
