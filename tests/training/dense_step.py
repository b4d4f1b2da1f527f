"""The training step written as its definition: with dense matrices, autograd and fp64."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.allocation import Matches, feature_choice, mutual_choice, token_choice
from distsae.model import FeatureShard
from tests.training.samples import D_SAE, TOKENS, K, credit, mean_and_variance

ALPHA, K_AUX = 1 / 32, 2 * K


@dataclass
class DenseStep:
    """The results of one global batch, by the definition.

    Args:
        matches: matches of the allocation rule.
        auxiliary: matches of the auxiliary loss; None without a set `U`.
        loss: main loss.
        aux_loss: auxiliary loss, without its weight.
        gradients: gradients of the sum of both losses, by parameter.
        aux_gradients: gradients of the weighted auxiliary loss alone, by parameter.
        residual: `x - x_hat` of the main reconstruction.
    """

    matches: Matches
    auxiliary: Matches | None
    loss: float
    aux_loss: float
    gradients: dict[str, Tensor]
    aux_gradients: dict[str, Tensor]
    residual: Tensor


def dense_step(
    shard: FeatureShard, x: Tensor, rule: str, members: Tensor | None = None, residual: Tensor | None = None
) -> DenseStep:
    """Computes a step over all features and all tokens.

    Args:
        shard: all features.
        x: all tokens, fp64 `[TOKENS, D_IN]`.
        rule: the allocation rule.
        members: the set `U`, bool `[D_SAE]`; None for no auxiliary loss.
        residual: target of the auxiliary reconstruction, a constant; by default the residual of the main one.
    """
    weights = {name: p.detach().clone().requires_grad_() for name, p in shard.named_parameters()}
    pre_acts = (x - weights["b_dec"]) @ weights["W_enc"].t() + weights["b_enc"]
    scores = pre_acts.relu()

    def reconstruction(chosen: Matches) -> Tensor:
        mask = torch.zeros(TOKENS, D_SAE, dtype=torch.bool)
        mask[chosen.token, chosen.feature] = True
        return (scores * mask) @ weights["W_dec"]

    matches = {
        "token_choice": lambda: token_choice(scores.detach(), K),
        "mutual_choice": lambda: mutual_choice(scores.detach(), K * TOKENS),
        "feature_choice": lambda: feature_choice(scores.detach(), credit().pay(TOKENS)),
    }[rule]()
    error = reconstruction(matches) + weights["b_dec"] - x
    loss = error.square().sum() / (TOKENS * mean_and_variance()[1])
    auxiliary, aux_loss = None, torch.zeros((), dtype=torch.float64)
    if members is not None:
        auxiliary = mutual_choice(scores.detach().masked_fill(~members, 0), K_AUX * TOKENS)
        residual = -error.detach() if residual is None else residual
        aux_loss = (reconstruction(auxiliary) - residual).square().sum() / residual.square().sum()
    main = torch.autograd.grad(loss, list(weights.values()), retain_graph=True)
    aux = (
        torch.autograd.grad(ALPHA * aux_loss, list(weights.values()))
        if members is not None
        else [torch.zeros_like(w) for w in weights.values()]
    )
    aux_gradients = dict(zip(weights, aux, strict=True))
    gradients = {name: part + aux_gradients[name] for name, part in zip(weights, main, strict=True)}
    return DenseStep(matches, auxiliary, loss.item(), aux_loss.item(), gradients, aux_gradients, -error.detach())
