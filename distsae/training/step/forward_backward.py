"""The forward and backward pass over one batch, as mathematics: matches, reconstruction, losses, gradients.

With `x_hat = sum over matches of score * W_dec[feature] + b_dec` and `g = dloss/dx_hat`, a match contributes
`score * g[token]` to its decoder row and, with `d = W_dec[feature] . g[token]`, `d * (x - b_dec)[token]` to its
encoder row and `d` to `b_enc`; the encoder passes `-W_enc.T @ b_enc.grad` on to `b_dec`. Nothing is as large as
tokens x features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.allocation import Matches
from distsae.model import FeatureShard
from distsae.parallel import Mesh
from distsae.training.step.gradients import Gradients, Term
from distsae.training.step.left_out import NONE_LEFT_OUT, LeftOut
from distsae.training.step.selectors import Selectors

__all__ = ["BatchOutcome", "forward_backward"]


@dataclass(frozen=True)
class BatchOutcome:
    """Losses, matches and gradients of a batch.

    Losses and energies are those of the global batch, equal on all ranks; matches and gradients are this rank's.

    Args:
        matches: this rank's matches, sorted by feature, in local indices.
        loss: squared error over the variance of the store, per token: the FVU in expectation.
        aux_loss: share of the residual's energy that the auxiliary reconstruction leaves unexplained; 0 without one.
        squared_error: `sum ||x - x_hat||^2` over the batch.
        energy: `sum ||x - mean||^2` over the batch, with the store's mean.
        gradients: gradients with respect to this rank's features, from the tokens of this data rank alone.
        tokens: number of tokens of the global batch, without those that were left out.
        observed: this rank's matches of each observer.
    """

    matches: Matches
    loss: float
    aux_loss: float
    squared_error: float
    energy: float
    gradients: Gradients
    tokens: int
    observed: tuple[Matches, ...] = ()


@torch.no_grad()
def forward_backward(
    shard: FeatureShard,
    x: Tensor,
    mesh: Mesh,
    selectors: Selectors,
    mean: Tensor,
    variance: float,
    alpha_aux: float,
    share: float = 1.0,
    left_out: LeftOut = NONE_LEFT_OUT,
) -> BatchOutcome:
    """Computes the losses of a global batch and this rank's gradients, without changing weights. Collective.

    Args:
        shard: this rank's features.
        x: this data rank's activations, fp32 `[tokens, d_in]`, equal on all feature ranks.
        mesh: the mesh, as this rank sees it.
        selectors: selectors of the step.
        mean: mean activation of the store, `[d_in]`.
        variance: total variance of the store, `E ||x - mean||^2`.
        alpha_aux: weight of the auxiliary loss.
        share: weight of this batch in the gradients; for a micro-batch, its share of the global batch.
        left_out: rows that are left out.

    Raises:
        NonFiniteScores: on every rank, if any score of the batch is not finite.
    """
    tokens = x.shape[0]
    placement = mesh.placement(shard.d_sae, tokens, left_out.of_all)
    all_tokens = placement.sharing(tokens)
    centred = left_out.zeroed(x - shard.b_dec)
    selected = selectors.select(shard.passes(centred, left_out.rows), placement, tokens)
    matches, auxiliary = selected.main, selected.auxiliary

    kernels, W_dec = shard.kernels, shard.W_dec.detach()
    # A second reconstruction is one of further tokens, so that both are one operation, and one message.
    decoded = matches if auxiliary is None else Matches.joined([matches, auxiliary], [0, tokens])
    rows = tokens if auxiliary is None else 2 * tokens
    reconstructions = mesh.feature.sum(kernels.decode(decoded.by_token(), W_dec, rows)).view(-1, tokens, x.shape[1])
    error = left_out.zeroed(reconstructions[0] + shard.b_dec - x)
    energies = mesh.data.sum(torch.stack([_energy(error), _energy(left_out.zeroed(x - mean))]))
    normaliser = max(all_tokens, 1) * variance
    terms = [_term(shard, matches, error * (2 * share / normaliser))]

    numbers = [*energies]
    if auxiliary is not None:
        # The residual is a constant here: auxiliary features learn what the main ones leave, and `b_dec` stays out.
        misfit = reconstructions[1] + error
        residual_energy = energies[0].clamp(min=torch.finfo(torch.float32).tiny)
        numbers.append(mesh.data.sum(_energy(misfit)) / residual_energy)
        terms.append(_term(shard, auxiliary, misfit * (2 * share * alpha_aux / residual_energy)))

    gradients = Gradients(tuple(terms), centred, len(shard.features), kernels)
    squared_error, energy, *aux_loss = torch.stack(numbers).tolist()  # on a GPU the CPU waits once for all of them
    return BatchOutcome(
        matches,
        squared_error / normaliser,
        sum(aux_loss, 0.0),
        squared_error,
        energy,
        gradients,
        all_tokens,
        selected.observed,
    )


def _energy(rows: Tensor) -> Tensor:
    """Returns the squared norm of all rows, summed in fp64: so that in fp32 the number of data ranks does not show."""
    return rows.square().sum(1).double().sum()


def _term(shard: FeatureShard, matches: Matches, g: Tensor) -> Term:
    """Returns the term of one reconstruction, given its matches, sorted by feature, and `g = dloss/dx_hat`."""
    return Term(matches, shard.kernels.match_dots(matches.feature, matches.token, shard.W_dec.detach(), g), g)
