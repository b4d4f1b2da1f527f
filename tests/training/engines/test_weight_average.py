"""The average equals a weighted sum of all weights, does not change training, and becomes the finished SAE."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distsae import SAE
from distsae.checkpoint import Shard, load
from distsae.parallel import MeshConfig, build_mesh
from distsae.store import Store
from distsae.training import CheckpointConfig, train
from distsae.training.engines.weight_average import WeightAverage
from tests.training.sample_runs import config_of, state
from tests.training.samples import D_SAE, shard_on

MESH = build_mesh(MeshConfig(), 1, "cpu")


def _moved(shard, step):
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for parameter in shard.parameters():
            parameter += torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return {name: parameter.detach().clone() for name, parameter in shard.named_parameters()}


def test_recent_weights_count_most_and_initial_ones_fade():
    shard = shard_on(MESH)
    average = WeightAverage(shard, 0.8)
    seen = [{name: parameter.detach().clone() for name, parameter in shard.named_parameters()}]
    for step in range(60):
        seen.append(_moved(shard, step))
        average.update(step)
    shares = [1.0]  # of the initial weights, then of the weights after each update
    for step in range(60):
        decay = min(0.8, (1 + step) / (10 + step))
        shares = [share * decay for share in shares] + [1 - decay]
    assert sum(shares) == pytest.approx(1)
    assert shares[0] < 1e-6
    for name, tensor in average.tensors().items():
        expected = sum(
            share * weights[name.removeprefix("average.")] for share, weights in zip(shares, seen, strict=True)
        )
        torch.testing.assert_close(tensor, expected)


def test_the_shard_has_the_average_within_the_block_and_its_weights_afterwards():
    shard = shard_on(MESH)
    average = WeightAverage(shard, 0.5, rows_at_once=7)
    for step in range(3):
        before = _moved(shard, step)
        average.update(step)
    kept = {name: tensor.clone() for name, tensor in average.tensors().items()}
    versions = [parameter._version for parameter in shard.parameters()]
    with average.applied():
        # The prefilter's copy of the weights is outdated now, which it notices by their versions.
        assert all(p._version > before for p, before in zip(shard.parameters(), versions, strict=True))
        versions = [parameter._version for parameter in shard.parameters()]
        for name, parameter in shard.named_parameters():
            assert not torch.equal(parameter, before[name])
            if name != "W_dec":
                assert torch.equal(parameter, kept[f"average.{name}"])
        torch.testing.assert_close(shard.W_dec.norm(dim=1), torch.ones(D_SAE, dtype=torch.float64))
        torch.testing.assert_close(
            shard.W_dec.detach(), torch.nn.functional.normalize(kept["average.W_dec"], dim=1), rtol=1e-12, atol=0
        )
    assert all(p._version > before for p, before in zip(shard.parameters(), versions, strict=True))
    for name, parameter in shard.named_parameters():
        assert torch.equal(parameter, before[name])
        assert torch.equal(average.tensors()[f"average.{name}"], kept[f"average.{name}"])


def test_training_is_the_same_and_the_sae_has_the_average(tiny_store, tmp_path):
    changes = {"steps": 12, "normalise": "none", "checkpoint": CheckpointConfig(every=12)}
    plain = config_of(tiny_store, tmp_path / "plain", **changes)
    averaged = config_of(tiny_store, tmp_path / "averaged", **changes, ema_decay=0.9)
    train(plain)
    train(averaged)
    (plain_checkpoint,) = (Path(plain.out) / "checkpoints").glob("step-*")
    (averaged_checkpoint,) = (Path(averaged.out) / "checkpoints").glob("step-*")
    d_in = Store.open(tiny_store).d_in(plain.hook)
    shapes = {"W_enc": (256, d_in), "W_dec": (256, d_in), "b_enc": (256,), "b_dec": (d_in,)}

    def read(path, prefix):
        tensors = {f"{prefix}{name}": torch.zeros(shape) for name, shape in shapes.items()}
        load(path, {n: t if n.endswith("b_dec") else Shard(t, 0, 256) for n, t in tensors.items()}, None)
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}

    trained, average = read(averaged_checkpoint, ""), read(averaged_checkpoint, "average.")
    for name, tensor in read(plain_checkpoint, "").items():
        assert torch.equal(trained[name], tensor), name
    sae = SAE.load(averaged.out)
    assert torch.equal(sae.W_enc.t(), average["W_enc"])
    assert torch.equal(sae.b_dec, average["b_dec"])
    torch.testing.assert_close(sae.W_dec.detach(), torch.nn.functional.normalize(average["W_dec"], dim=1))
    assert not torch.equal(sae.W_enc.t(), trained["W_enc"])
    assert state(tmp_path / "averaged" / "sae") != state(tmp_path / "plain" / "sae")
