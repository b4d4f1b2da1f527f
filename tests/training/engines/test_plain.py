"""The plain engine equals torch's Adam on dense gradients, with projection, clipping and renormalisation."""

import pytest
import torch

from distsae.allocation import MutualSelector
from distsae.parallel import MeshConfig, build_mesh
from distsae.training import OptimizerConfig, PlainEngine, Selectors, forward_backward
from tests.training.dense_step import ALPHA, K_AUX
from tests.training.samples import (
    D_IN,
    D_SAE,
    K,
    activations,
    dense_gradients,
    mean_and_variance,
    moved_shard_on,
    shard_on,
)

MESH = build_mesh(MeshConfig(), 1, "cpu")


def _gradients(shard, step):
    """Returns the gradients of a step, with those of the auxiliary loss."""
    selectors = Selectors(MutualSelector(K), MutualSelector(K_AUX, torch.arange(D_SAE) % 3 == 0))
    return forward_backward(shard, activations(step), MESH, selectors, *mean_and_variance(), ALPHA).gradients


def _expected(shard, gradients):
    """Returns the gradients as matrices, with the decoder's projected, and their norm."""
    dense = dense_gradients(gradients, shard, MESH)
    rows = shard.W_dec.detach()
    dense["W_dec"] -= (dense["W_dec"] * rows).sum(1, keepdim=True) * rows
    return dense, torch.cat([gradient.flatten() for gradient in dense.values()]).norm().item()


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
@pytest.mark.parametrize(("clip_norm", "decoder_rate"), [(None, 3.0), (0.05, 1.0), (0.05, 0.5)])
def test_equals_torch_with_projection_clipping_and_renormalisation(rows, clip_norm, decoder_rate):
    """With blocks of any number of rows."""
    shard = moved_shard_on(MESH)
    config = OptimizerConfig(beta1=0.8, beta2=0.95, eps=1e-6, clip_norm=clip_norm, decoder_rate=decoder_rate)
    engine = PlainEngine(shard, MESH, config, block_bytes=rows * D_IN * shard.W_enc.element_size())
    copies = {name: parameter.detach().clone().requires_grad_() for name, parameter in shard.named_parameters()}
    groups = [{"params": [copy], "of_lr": decoder_rate if name == "W_dec" else 1.0} for name, copy in copies.items()]
    adam = torch.optim.Adam(groups, lr=0.0, betas=(0.8, 0.95), eps=1e-6)
    clipped = 0
    for step in range(5):
        gradients = _gradients(shard, step)
        dense, norm = _expected(shard, gradients)
        scale = min(1.0, (clip_norm or torch.inf) / norm)
        clipped += scale < 1
        for name, copy in copies.items():
            copy.grad = scale * dense[name]
        for group in adam.param_groups:
            group["lr"] = group["of_lr"] * 0.01 * (step + 1)
        adam.step()
        with torch.no_grad():
            copies["W_dec"] /= copies["W_dec"].norm(dim=1, keepdim=True)
        assert engine.update(gradients, 0.01 * (step + 1)) == pytest.approx(norm, rel=1e-12)
        for name, copy in copies.items():
            torch.testing.assert_close(getattr(shard, name), copy, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(shard.W_dec.norm(dim=1), torch.ones(64, dtype=torch.float64))
    assert clipped == (0 if clip_norm is None else 5)


def test_gradients_of_zero_change_nothing():
    shard = moved_shard_on(MESH)
    with torch.no_grad():
        shard.b_enc.fill_(-100.0)
    perfect = shard.b_dec.detach().expand(96, D_IN).clone()
    mean, variance = mean_and_variance()
    outcome = forward_backward(shard, perfect, MESH, Selectors(MutualSelector(K)), mean, variance, ALPHA)
    before = [parameter.detach().clone() for parameter in shard.parameters()]
    assert PlainEngine(shard, MESH, OptimizerConfig(clip_norm=1.0)).update(outcome.gradients, 0.1) == 0
    for parameter, then in zip(shard.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.detach(), then)


def test_tensors_are_live_and_complete():
    shard = shard_on(MESH)
    engine = PlainEngine(shard, MESH, OptimizerConfig())
    names = ("W_enc", "W_dec", "b_enc", "b_dec")
    assert set(engine.tensors()) == {
        f"adam.{part}.{name}" for part in ("step", "exp_avg", "exp_avg_sq") for name in names
    }
    other = shard_on(MESH)
    resumed = PlainEngine(other, MESH, OptimizerConfig())
    for step in range(3):
        engine.update(_gradients(shard, step), 0.01)
    with torch.no_grad():
        for copy, parameter in zip(other.parameters(), shard.parameters(), strict=True):
            copy.copy_(parameter)
    live = resumed.tensors()
    for name, tensor in engine.tensors().items():
        assert tensor.any(), name
        live[name].copy_(tensor)
    resumed.restore(live)
    assert engine.update(_gradients(shard, 9), 0.01) == resumed.update(_gradients(other, 9), 0.01)
    for copy, parameter in zip(other.parameters(), shard.parameters(), strict=True):
        assert torch.equal(copy, parameter)
