"""Thresholds that stand in for a batch rule when there is no batch, tracked while training goes on.

The smallest selected score, of the batch for Mutual Choice and of each feature for Feature Choice, as a bias-corrected
running average. `freezing/calibration.py` makes the frozen rule of it at the end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation import FeatureSelector, MutualSelector
from distsae.parallel import Mesh

__all__ = ["ThresholdTracker"]

_DECAY = 0.99


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
