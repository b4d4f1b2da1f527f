"""The frozen rule: thresholds that stand in for a batch rule when there is no batch.

Training tracks the smallest selected score, of the batch for Mutual Choice and of each feature for Feature Choice, as
a bias-corrected running average. At the end Feature Choice spends its quotas over many tokens at once, and one factor
on all thresholds is calibrated on held-out tokens so that L0 matches: the factor is the cut of a Mutual Choice among
the ratios score / threshold.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from distsae.allocation import FeatureSelector, MutualSelector, QuotaCredit, Scores, select
from distsae.model import FeatureShard
from distsae.parallel import Mesh

__all__ = ["ThresholdTracker", "calibrated", "quota_thresholds"]

_DECAY = 0.99

_LEAST_THRESHOLD = 2.0**-64
"""Scores divided by it stay finite, fp32, up to 2^64; by the smallest normal number, only up to 4."""


class ThresholdTracker:
    """Running averages of the smallest selected scores of this rank's features.

    Args:
        features: features on this rank.
    """

    def __init__(self, features: int) -> None:
        self.total = torch.zeros(features, dtype=torch.float64)
        self.weight = torch.zeros(features, dtype=torch.float64)

    def update(self, selector: object) -> None:
        """Takes the cut of the batch that `selector` has just settled; rules without one leave no trace."""
        if isinstance(selector, MutualSelector) and selector.cut is not None:
            self.total.mul_(_DECAY).add_((1 - _DECAY) * selector.cut)
            self.weight.mul_(_DECAY).add_(1 - _DECAY)
        elif isinstance(selector, FeatureSelector):
            cuts = selector.cuts.cpu().double()
            fired = cuts.isfinite()
            self.total = torch.where(fired, self.total * _DECAY + (1 - _DECAY) * cuts, self.total)
            self.weight = torch.where(fired, self.weight * _DECAY + (1 - _DECAY), self.weight)

    def restart(self) -> None:
        """Forgets everything, as when another rule begins."""
        self.total.zero_()
        self.weight.zero_()

    def thresholds(self) -> Tensor:
        """Returns the averages, fp64 `[features]`; infinite for a feature that was never selected."""
        return torch.where(self.weight > 0, self.total / self.weight, torch.inf)

    def mean(self, mesh: Mesh, device: torch.device) -> float | None:
        """Returns the mean of all ranks' finite averages, None if there are none; collective."""
        tracked = self.thresholds()
        known = tracked.isfinite()
        sums = torch.stack([torch.where(known, tracked, 0.0).sum(), known.sum().double()])
        total, count = mesh.feature.sum(sums.to(device)).tolist()
        return total / count if count else None

    def tensors(self) -> dict[str, Tensor]:
        """Returns the live tensors, one row a local feature."""
        return {"threshold.total": self.total, "threshold.weight": self.weight}


@torch.no_grad()
def quota_thresholds(
    shard: FeatureShard, quota_per_token: Tensor, k: float, x: Tensor, mesh: Mesh, d_sae: int
) -> Tensor:
    """Returns for each feature the score that as many tokens exceed as its quota says.

    The cuts of batches will not do for a feature with less than one match a batch: its matches are maxima of many
    batches, and a threshold there would fire in most of them. Here the feature's quota is spent over many tokens.

    Args:
        shard: this rank's features.
        quota_per_token: matches per token of this rank's features, fp64 `[d_sae_local]`.
        k: mean matches per token, of all features together.
        x: this data rank's activations, fp32 `[tokens, d_in]`; as many on every data rank.
        mesh: this process's place.
        d_sae: features over all ranks.

    Returns:
        fp32 `[d_sae_local]`; nan for a feature that no match was granted to, or that has no positive score.
    """
    device = shard.b_dec.device
    selector = FeatureSelector(len(shard.features))
    selector.grant(QuotaCredit(quota_per_token, k, mesh.feature).pay(x.shape[0] * mesh.data.size).to(device))
    centred = x.to(device) - shard.b_dec
    select([selector], lambda: shard.encode_chunks(centred), mesh.placement(d_sae, x.shape[0]), x.shape[0])
    return selector.cuts


@torch.no_grad()
def calibrated(shard: FeatureShard, thresholds: Tensor, x: Tensor, k: int, mesh: Mesh, d_sae: int) -> Tensor:
    """Scales thresholds by one factor so that held-out tokens have `k` matches on average.

    Args:
        shard: this rank's features.
        thresholds: one a local feature, infinite for one that never fires; one of zero, or nearly, counts as 2^-64.
        x: this data rank's held-out activations, fp32 `[tokens, d_in]`; as many on every data rank.
        k: mean matches per token to reach.
        mesh: this process's place.
        d_sae: features over all ranks.

    Returns:
        Thresholds, fp32 `[d_sae_local]`; unchanged if too few scores are positive.
    """
    thresholds = thresholds.to(x.device, torch.float32).clamp(min=_LEAST_THRESHOLD)

    def ratios() -> Iterator[tuple[int, Scores]]:
        for first, scores in shard.encode_chunks(x - shard.b_dec):
            yield first, _Ratios(scores, thresholds[first : first + scores.shape[0], None])

    selector = MutualSelector(k)
    select([selector], ratios, mesh.placement(d_sae, x.shape[0]), x.shape[0])
    return thresholds if selector.cut is None else thresholds * selector.cut


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
