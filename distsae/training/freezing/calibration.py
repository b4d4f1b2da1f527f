"""The frozen rule: thresholds that select about as many matches as the batch rule, without a batch.

One factor for all thresholds is calibrated on held-out tokens, so that L0 is that of the batch rule. The factor is the
cut of Mutual Choice among the ratios score / threshold. For Feature Choice, the thresholds before calibration come from
spending its quotas over many tokens at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from distsae.allocation import FeatureSelector, MutualSelector, QuotaCredit, ScoreRatios, Scores, select
from distsae.allocation.segments import counted
from distsae.batches import Batch
from distsae.model import FeatureShard
from distsae.parallel import Mesh
from distsae.training.step import left_out_of

__all__ = ["calibrated", "filled_thresholds", "quota_thresholds"]

_LEAST_THRESHOLD = 2.0**-64
"""Smallest threshold: scores up to 2^64 can be divided by it in fp32; by the smallest normal number only up to 4."""


@torch.no_grad()
def quota_thresholds(shard: FeatureShard, quota_per_token: Tensor, k: float, batch: Batch, mesh: Mesh) -> Tensor:
    """Returns for each feature the threshold that as many tokens reach as its quota allows. Collective.

    The cuts of single batches are no use for a feature with less than one match per batch. Each of its matches is the
    largest score of a batch, so at a threshold near them it would fire in most batches. Here its quota is spent over
    many tokens at once.

    Args:
        shard: this rank's features.
        quota_per_token: matches per token of this rank's features, fp64 `[d_sae_local]`.
        k: mean matches per token, over all features.
        batch: this data rank's rows, equally many on every data rank.
        mesh: the mesh, as this rank sees it.

    Returns:
        Thresholds, fp32 `[d_sae_local]`; 0 for a feature with fewer positive scores than its quota, NaN for one that
        was granted no match.
    """
    device = shard.b_dec.device
    selector = FeatureSelector(len(shard.features))
    tokens = batch.x.shape[0]
    batch = batch.to(device)
    (left_out,) = left_out_of([batch.left_out], mesh)
    placement = mesh.placement(shard.d_sae, tokens, left_out.of_all)
    granted = QuotaCredit(quota_per_token, k, mesh.feature).pay(placement.sharing(tokens)).to(device)
    selector.grant(granted)
    centred = left_out.zeroed(batch.x - shard.b_dec)
    (matches,) = select([selector], lambda: shard.encode_chunks(centred, left_out.rows), placement, tokens)
    found = mesh.data.sum(counted(matches.feature, len(granted)))
    return torch.where(found < granted, 0.0, selector.cuts)


@torch.no_grad()
def calibrated(shard: FeatureShard, thresholds: Tensor, x: Tensor, k: int, mesh: Mesh) -> Tensor:
    """Scales thresholds by one factor, so that held-out tokens have `k` matches on average. Collective.

    Args:
        shard: this rank's features.
        thresholds: threshold of each local feature, `[d_sae_local]`, infinite for a feature that never fires;
            thresholds below 2^-64 count as 2^-64.
        x: this data rank's held-out activations, fp32 `[tokens, d_in]`, equally many on every data rank.
        k: mean matches per token to reach.
        mesh: the mesh, as this rank sees it.

    Returns:
        Thresholds, fp32 `[d_sae_local]`. If there are fewer positive scores than `k` a token, all of them are matches:
        the finite thresholds are 0. Without tokens, thresholds are not scaled.
    """
    thresholds = thresholds.to(x.device, torch.float32).clamp(min=_LEAST_THRESHOLD)

    def ratios() -> Iterator[tuple[int, Scores]]:
        for first, scores in shard.encode_chunks(x - shard.b_dec):
            yield first, ScoreRatios(scores, thresholds[first : first + scores.shape[0], None])

    selector = MutualSelector(k)
    select([selector], ratios, mesh.placement(shard.d_sae, x.shape[0]), x.shape[0])
    if selector.shortfall:
        return torch.where(thresholds.isinf(), thresholds, 0.0)
    return thresholds if selector.cut is None else thresholds * selector.cut


def filled_thresholds(thresholds: Tensor, mesh: Mesh) -> Tensor:
    """Returns thresholds that are all finite: others become the median of all features' finite ones. Collective.

    If no feature has a finite threshold, all become 1.

    Args:
        thresholds: threshold of each local feature, `[d_sae_local]`.
        mesh: the mesh, as this rank sees it.
    """
    of_all_features = torch.cat(mesh.feature.gather(thresholds))
    finite = of_all_features[of_all_features.isfinite()]
    return torch.where(thresholds.isfinite(), thresholds, float(finite.median()) if finite.numel() else 1.0)
