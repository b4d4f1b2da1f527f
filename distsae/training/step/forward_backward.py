"""One training step, as mathematics: matches, reconstruction, losses, and the gradients written out.

With `x_hat = sum over matches of score * W_dec[feature] + b_dec` and `g = dloss/dx_hat`, a match contributes
`score * g[token]` to its decoder row and, with `d = W_dec[feature] . g[token]`, `d * (x - b_dec)[token]` to its
encoder row and `d` to `b_enc`; the encoder passes `-W_enc.T @ b_enc.grad` on to `b_dec`. Nothing is as large as
tokens x features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.allocation import Matches, Selector, select
from distsae.model import FeatureShard
from distsae.parallel import Mesh
from distsae.training.step.gradients import Gradients, Term

__all__ = ["StepOutcome", "training_step"]


@dataclass(frozen=True)
class StepOutcome:
    """What a step found; every number is of the global batch and equal on all ranks.

    Args:
        matches: this rank's matches, by feature, in local indices.
        loss: squared error over the variance of the store, per token: the FVU in expectation.
        aux_loss: share of the residual's energy that the auxiliary reconstruction leaves; 0 without one.
        squared_error: `sum ||x - x_hat||^2` over the batch.
        energy: `sum ||x - mean||^2` over the batch, with the store's mean.
        gradients: with respect to this rank's features, of this data rank's tokens: its part of the batch's.
        observed: this rank's matches of each observer.
    """

    matches: Matches
    loss: float
    aux_loss: float
    squared_error: float
    energy: float
    gradients: Gradients
    observed: tuple[Matches, ...] = ()


@torch.no_grad()
def training_step(
    shard: FeatureShard,
    x: Tensor,
    mesh: Mesh,
    d_sae: int,
    selectors: Sequence[Selector],
    mean: Tensor,
    variance: float,
    alpha_aux: float,
    observers: Sequence[Selector] = (),
    share: float = 1.0,
) -> StepOutcome:
    """Computes the losses of a global batch and this rank's gradients.

    Args:
        shard: this rank's features.
        x: this data rank's activations, fp32 `[tokens, d_in]`, equal on all feature ranks.
        mesh: this process's place.
        d_sae: features over all ranks.
        selectors: the allocation, and optionally a second one for the auxiliary loss (budget and members its own).
        mean: the store's mean activation, `[d_in]`.
        variance: the store's total variance, `E ||x - mean||^2`.
        alpha_aux: weight of the auxiliary loss.
        observers: further rules that select from the same scores; what they select trains nothing.
        share: this batch's weight in the gradients of an optimizer step that takes several.

    Returns:
        Losses, matches and gradients.

    Raises:
        NonFiniteScores: on every rank, if any score of the batch is not finite.
    """
    tokens = x.shape[0]
    all_tokens = tokens * mesh.data.size
    centred = x - shard.b_dec
    place = mesh.placement(d_sae, tokens)
    selected = select([*selectors, *observers], lambda: shard.encode_chunks(centred), place, tokens)
    matches, *auxiliary = selected[: len(selectors)]
    observed = tuple(selected[len(selectors) :])

    kernels, W_dec = shard.kernels, shard.W_dec.detach()
    partial = [kernels.decode(found.by_token(), W_dec, tokens) for found in (matches, *auxiliary)]
    reconstructions = mesh.feature.sum(torch.stack(partial))  # both in one message
    error = reconstructions[0] + shard.b_dec - x
    energies = mesh.data.sum(torch.stack([_energy(error), _energy(x - mean)]))
    terms = [_term(shard, matches, error * (2 * share / (all_tokens * variance)))]

    aux_loss = 0.0
    if auxiliary:
        # The residual is a constant here: the auxiliary features learn what the others leave, and b_dec has no part.
        misfit = reconstructions[1] + error
        residual_energy = energies[0].clamp(min=torch.finfo(torch.float32).tiny)
        aux_loss = float(mesh.data.sum(_energy(misfit)) / residual_energy)
        terms.append(_term(shard, auxiliary[0], misfit * (2 * share * alpha_aux / residual_energy)))

    gradients = Gradients(tuple(terms), centred, len(shard.features), kernels)
    squared_error, energy = energies.tolist()
    loss = squared_error / (all_tokens * variance)
    return StepOutcome(matches, loss, aux_loss, squared_error, energy, gradients, observed)


def _energy(rows: Tensor) -> Tensor:
    """Returns the squared norm of all rows: summed in fp64, what tokens lie on which rank does not show in fp32."""
    return rows.square().sum(1).double().sum()


def _term(shard: FeatureShard, matches: Matches, g: Tensor) -> Term:
    """Returns the gradients through matches sorted by feature; `g` is dloss/dx_hat."""
    return Term(matches, shard.kernels.match_dots(matches.feature, matches.token, shard.W_dec.detach(), g), g)
