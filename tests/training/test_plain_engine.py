"""Adam on a shard: the same as torch's on dense parameters, decoder rows on the unit sphere."""

import pytest
import torch

from distsae.parallel import MeshConfig, build_mesh
from distsae.training import OptimizerConfig, PlainEngine

from .samples import shard_on

MESH = build_mesh(MeshConfig(), 1, "cpu")


def _gradients(shard, step, scale=1.0):
    generator = torch.Generator().manual_seed(step)
    for parameter in shard.parameters():
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def test_equals_torch_with_projection_and_renormalisation():
    shard = shard_on(MESH)
    engine = PlainEngine(shard, MESH, OptimizerConfig(beta1=0.8, beta2=0.95, eps=1e-6))
    copies = {name: parameter.detach().clone().requires_grad_() for name, parameter in shard.named_parameters()}
    adam = torch.optim.Adam(copies.values(), lr=0.0, betas=(0.8, 0.95), eps=1e-6)
    for step in range(5):
        _gradients(shard, step)
        for name, copy in copies.items():
            copy.grad = getattr(shard, name).grad.clone()
        rows, gradient = copies["W_dec"].detach(), copies["W_dec"].grad
        gradient -= (gradient * rows).sum(1, keepdim=True) * rows
        expected_norm = torch.cat([copy.grad.flatten() for copy in copies.values()]).norm().item()
        adam.param_groups[0]["lr"] = 0.01 * (step + 1)
        adam.step()
        with torch.no_grad():
            copies["W_dec"] /= copies["W_dec"].norm(dim=1, keepdim=True)
        assert engine.update(0.01 * (step + 1)) == pytest.approx(expected_norm, rel=1e-12)
        for name, copy in copies.items():
            torch.testing.assert_close(getattr(shard, name), copy, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(shard.W_dec.norm(dim=1), torch.ones(64, dtype=torch.float64))


def test_gradients_are_clipped_to_their_global_norm():
    shard = shard_on(MESH)
    engine = PlainEngine(shard, MESH, OptimizerConfig(clip_norm=0.5))
    _gradients(shard, 0)
    norm = engine.update(0.0)
    assert norm > 0.5  # what is reported is the norm before
    clipped = torch.cat([parameter.grad.flatten() for parameter in shard.parameters()]).norm().item()
    assert clipped == pytest.approx(0.5, rel=1e-12)
    _gradients(shard, 0, scale=1e-4)
    small = engine.update(0.0)
    left = torch.cat([parameter.grad.flatten() for parameter in shard.parameters()]).norm().item()
    assert left == pytest.approx(small, rel=1e-12)


def test_state_is_live_and_complete():
    shard = shard_on(MESH)
    engine = PlainEngine(shard, MESH, OptimizerConfig())
    names = ("W_enc", "W_dec", "b_enc", "b_dec")
    assert set(engine.state()) == {
        f"adam.{part}.{name}" for part in ("step", "exp_avg", "exp_avg_sq") for name in names
    }
    other = shard_on(MESH)
    resumed = PlainEngine(other, MESH, OptimizerConfig())
    for step in range(3):
        _gradients(shard, step)
        engine.update(0.01)
    with torch.no_grad():
        for mine, theirs in zip(other.parameters(), shard.parameters(), strict=True):
            mine.copy_(theirs)
    live = resumed.state()
    for name, tensor in engine.state().items():
        assert tensor.any(), name
        live[name].copy_(tensor)
    resumed.restore(live)
    for s in (shard, other):
        _gradients(s, 9)
    assert engine.update(0.01) == resumed.update(0.01)
    for mine, theirs in zip(other.parameters(), shard.parameters(), strict=True):
        assert torch.equal(mine, theirs)
