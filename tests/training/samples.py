"""Small samples to train on: activations that are sparse mixtures, a shard, and a selector for each rule."""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation import (
    FeatureSelector,
    MutualSelector,
    QuotaCredit,
    TokenSelector,
    TrainingSelector,
    zipf_quotas,
)
from distsae.model import FeatureShard
from distsae.parallel import Mesh
from distsae.training import Gradients

D_IN = 16
D_SAE = 64
K = 4
TOKENS = 96
BATCH = 128
"""Token rows in a batch of `training_step`: a multiple of the number of streams."""

RULES = ("token_choice", "mutual_choice", "feature_choice")


def activations(step: int, dtype: torch.dtype = torch.float64, tokens: int = TOKENS) -> Tensor:
    """Returns global batch `step`: sparse mixtures of fixed directions, with an offset, `[tokens, D_IN]`."""
    fixed = torch.Generator().manual_seed(7)
    directions = torch.nn.functional.normalize(torch.randn(40, D_IN, generator=fixed, dtype=torch.float64), dim=1)
    offset = torch.randn(D_IN, generator=fixed, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1000 + step)
    weights = torch.rand(tokens, 40, generator=generator, dtype=torch.float64)
    on = torch.rand(tokens, 40, generator=generator, dtype=torch.float64) < 3 / (torch.arange(40) + 10)
    noise = 0.05 * torch.randn(tokens, D_IN, generator=generator, dtype=torch.float64)
    return (weights * on * 4 @ directions + offset + noise).to(dtype)


def mean_and_variance(dtype: torch.dtype = torch.float64) -> tuple[Tensor, float]:
    """Returns the mean and the total variance of these activations, as a sealed store has them."""
    x = torch.cat([activations(step) for step in range(8)])
    return x.mean(0).to(dtype), float((x - x.mean(0)).square().sum(1).mean())


def shard_on(mesh: Mesh, dtype: torch.dtype = torch.float64) -> FeatureShard:
    """Returns this rank's features with initial weights."""
    return FeatureShard(D_IN, D_SAE, mesh.features(D_SAE), mean_and_variance(dtype)[0], seed=3).to(dtype)


def moved_shard_on(mesh: Mesh) -> FeatureShard:
    """Returns this rank's features with weights as in the middle of training.

    Encoder and decoder rows differ, and biases are not zero.
    """
    shard = shard_on(mesh)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in shard.named_parameters():
            rows = slice(None) if name == "b_dec" else slice(shard.features.start, shard.features.stop)
            whole = (D_IN,) if name == "b_dec" else (D_SAE, *parameter.shape[1:])
            parameter += 0.1 * torch.randn(whole, generator=generator, dtype=torch.float64)[rows]
        shard.normalise_decoder()
    return shard


def selector_on(mesh: Mesh, rule: str) -> TrainingSelector:
    """Returns this rank's selector of a rule."""
    match rule:
        case "token_choice":
            return TokenSelector(K)
        case "mutual_choice":
            return MutualSelector(K)
        case _:
            return FeatureSelector(len(mesh.features(D_SAE)))


def credit() -> QuotaCredit:
    """Returns Zipf quotas of all features, without credit yet."""
    return QuotaCredit(zipf_quotas(D_SAE, K, s=0.8, q=4.0), K)


def dense_gradients(gradients: Gradients, shard: FeatureShard, mesh: Mesh) -> dict[str, Tensor]:
    """Returns gradients as matrices, by parameter."""
    ((_, _, W_enc, W_dec),) = gradients.row_blocks(gradients.features)
    b_enc = gradients.b_enc()
    b_dec = gradients.b_dec_as_decoder_bias() - mesh.feature.sum(b_enc @ shard.W_enc.detach())
    return {"W_enc": W_enc, "W_dec": W_dec, "b_enc": b_enc, "b_dec": b_dec}
