"""The scale of the initial encoder rows with which the first batch is reconstructed best.

With encoder rows equal to decoder rows, features that overlap add up, and the reconstruction overshoots: its error can
exceed the variance of the data. One factor for all encoder rows mends most of it. The matches do not depend on it,
since it changes all scores alike, so the best factor is a matter of least squares: `<x_hat, x> / <x_hat, x_hat>`, with
`b_dec` subtracted from both.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from distsae.allocation import FeatureSelector, QuotaCredit, TrainingSelector, select
from distsae.model import FeatureShard
from distsae.parallel import Mesh
from distsae.training.step.left_out import LeftOut

__all__ = ["fitted_encoder_scale"]


@torch.no_grad()
def fitted_encoder_scale(
    shard: FeatureShard,
    parts: Sequence[tuple[Tensor, LeftOut]],
    mesh: Mesh,
    selector: TrainingSelector,
    credit: QuotaCredit | None = None,
) -> float:
    """Returns the factor for the encoder rows that fits a batch best, rounded to four digits. Collective.

    It is rounded so that it is the same on every mesh, where sums are rounded differently. It is 1 if nothing matches.

    Args:
        shard: this rank's features, whose encoder biases are 0; not changed.
        parts: rows of each micro-batch of the batch, `[tokens, d_in]`, and those that are left out.
        mesh: the mesh, as this rank sees it.
        selector: selector of the rule, which has seen no batch.
        credit: quotas of Feature Choice, from which the batch is paid; None for the other rules.
    """
    sums = torch.zeros(2, dtype=torch.float64, device=shard.b_dec.device)
    for x, left_out in parts:
        tokens = x.shape[0]
        placement = mesh.placement(shard.d_sae, tokens, left_out.of_all)
        if credit is not None and isinstance(selector, FeatureSelector):
            selector.grant(credit.pay(placement.sharing(tokens)))
        centred = left_out.zeroed(x - shard.b_dec)
        chunks = partial(shard.encode_chunks, centred, left_out.rows)
        (matches,) = select([selector], chunks, placement, tokens)
        x_hat = mesh.feature.sum(shard.kernels.decode(matches.by_token(), shard.W_dec.detach(), tokens))
        sums += torch.stack([(x_hat * y).sum(1).double().sum() for y in (centred, x_hat)])
    dot, square = mesh.data.sum(sums).tolist()
    return float(f"{dot / square:.4g}") if square > 0 < dot else 1.0
