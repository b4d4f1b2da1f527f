"""The frozen rule: thresholds that select about as many matches as the batch rule, without a batch.

At the end Feature Choice spends its quotas over many tokens at once, and one factor on all thresholds is calibrated on
held-out tokens so that L0 matches: the factor is the cut of a Mutual Choice among the ratios score / threshold.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from distsae.allocation import FeatureSelector, MutualSelector, QuotaCredit, Scores, select
from distsae.model import FeatureShard
from distsae.parallel import Mesh

__all__ = ["calibrated", "quota_thresholds", "without_gaps"]

_LEAST_THRESHOLD = 2.0**-64
"""Scores divided by it stay finite, fp32, up to 2^64; by the smallest normal number, only up to 4."""


@torch.no_grad()
def quota_thresholds(shard: FeatureShard, quota_per_token: Tensor, k: float, x: Tensor, mesh: Mesh) -> Tensor:
    """Returns for each feature the score that as many tokens exceed as its quota says.

    The cuts of batches will not do for a feature with less than one match a batch: its matches are maxima of many
    batches, and a threshold there would fire in most of them. Here the feature's quota is spent over many tokens.

    Args:
        shard: this rank's features.
        quota_per_token: matches per token of this rank's features, fp64 `[d_sae_local]`.
        k: mean matches per token, of all features together.
        x: this data rank's activations, fp32 `[tokens, d_in]`; as many on every data rank.
        mesh: the mesh, as this rank sees it.

    Returns:
        fp32 `[d_sae_local]`; nan for a feature that no match was granted to, or that has no positive score.
    """
    device = shard.b_dec.device
    selector = FeatureSelector(len(shard.features))
    selector.grant(QuotaCredit(quota_per_token, k, mesh.feature).pay(x.shape[0] * mesh.data.size).to(device))
    centred = x.to(device) - shard.b_dec
    select([selector], lambda: shard.encode_chunks(centred), mesh.placement(shard.d_sae, x.shape[0]), x.shape[0])
    return selector.cuts


@torch.no_grad()
def calibrated(shard: FeatureShard, thresholds: Tensor, x: Tensor, k: int, mesh: Mesh) -> Tensor:
    """Scales thresholds by one factor so that held-out tokens have `k` matches on average.

    Args:
        shard: this rank's features.
        thresholds: one a local feature, infinite for one that never fires; one of zero, or nearly, counts as 2^-64.
        x: this data rank's held-out activations, fp32 `[tokens, d_in]`; as many on every data rank.
        k: mean matches per token to reach.
        mesh: the mesh, as this rank sees it.

    Returns:
        Thresholds, fp32 `[d_sae_local]`; unchanged if too few scores are positive.
    """
    thresholds = thresholds.to(x.device, torch.float32).clamp(min=_LEAST_THRESHOLD)

    def ratios() -> Iterator[tuple[int, Scores]]:
        for first, scores in shard.encode_chunks(x - shard.b_dec):
            yield first, _Ratios(scores, thresholds[first : first + scores.shape[0], None])

    selector = MutualSelector(k)
    select([selector], ratios, mesh.placement(shard.d_sae, x.shape[0]), x.shape[0])
    return thresholds if selector.cut is None else thresholds * selector.cut


def without_gaps(thresholds: Tensor, mesh: Mesh) -> Tensor:
    """Gives each local feature without a finite threshold the median of all ranks' finite ones, or 1; collective."""
    everyone = torch.cat(mesh.feature.gather(thresholds))
    known = everyone[everyone.isfinite()]
    return torch.where(thresholds.isfinite(), thresholds, float(known.median()) if known.numel() else 1.0)


class _Ratios:
    """Scores over thresholds, which are scores to a selector."""

    def __init__(self, scores: Scores, thresholds: Tensor) -> None:
        self._scores, self._thresholds = scores, thresholds  # [features, 1]
        self.shape, self.device = scores.shape, scores.device

    def non_finite(self) -> int:
        return self._scores.non_finite()

    def above(self, bound: Tensor, rows: Tensor | None = None, most: int | None = None) -> tuple[Tensor, Tensor]:
        thresholds = self._thresholds if rows is None else self._thresholds[rows]
        least = torch.where(thresholds.isinf(), torch.inf, bound * thresholds * (1 - 2**-20))
        # A quotient is rounded; the block is asked for a little more than is wanted. It cannot be told `most`, since
        # its largest scores are not those with the largest ratios.
        flat, score = self._scores.above(least, rows)
        ratio = score / self._thresholds.squeeze(1)[flat // self.shape[1]]
        assert bound.numel() == 1  # as Mutual Choice asks
        kept = ratio >= bound.view(-1)
        return flat[kept], ratio[kept]

    def leading(self, k: int) -> Tensor:
        return torch.zeros(self.shape[1], device=self.device)

    def sample(self, rows: Tensor, stride: int) -> Tensor:
        return self._scores.sample(rows, stride) / self._thresholds[rows]
