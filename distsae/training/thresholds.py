"""Thresholds that replace a batch rule where there is no batch, tracked during training.

A threshold is a bias-corrected running average of the smallest selected score: of the batch for Mutual Choice, of each
feature for Feature Choice. At the end `freezing/calibration.py` makes the frozen rule from them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation import FeatureSelector, MutualSelector, PricedSelector
from distsae.parallel import Mesh

__all__ = ["ThresholdTracker"]

_DECAY = 0.99


class ThresholdTracker:
    """Running averages of the smallest selected scores of this rank's features.

    Args:
        features: number of features on this rank.
        device: device of the averages.

    Attributes:
        total: weighted sum of the smallest selected scores of each feature, fp64 `[features]`.
        weight: sum of the weights, fp64 `[features]`.
    """

    def __init__(self, features: int, device: torch.device | str = "cpu") -> None:
        self.total = torch.zeros(features, dtype=torch.float64, device=device)
        self.weight = torch.zeros_like(self.total)

    def update(self, selector: object) -> None:
        """Adds the cuts of the batch that `selector` has just resolved; a rule without cuts changes nothing.

        The cut of a batch that fell short of its budget is 0, for all its positive scores were selected.
        """
        if isinstance(selector, MutualSelector) and (selector.cut is not None or selector.shortfall):
            self.total.mul_(_DECAY).add_((1 - _DECAY) * (selector.cut or 0.0))
            self.weight.mul_(_DECAY).add_(1 - _DECAY)
        elif isinstance(selector, FeatureSelector | PricedSelector) and selector.cuts is not None:
            cuts = selector.cuts.to(self.total)
            fired = cuts.isfinite()
            self.total = torch.where(fired, self.total * _DECAY + (1 - _DECAY) * cuts, self.total)
            self.weight = torch.where(fired, self.weight * _DECAY + (1 - _DECAY), self.weight)

    def restart(self) -> None:
        """Drops all averages, for another rule to start with."""
        self.total.zero_()
        self.weight.zero_()

    def thresholds(self) -> Tensor:
        """Returns the averages, fp64 `[features]`, on the CPU; infinite for a feature that was never selected."""
        return self._averages().cpu()

    def _averages(self) -> Tensor:
        return torch.where(self.weight > 0, self.total / self.weight, torch.inf)

    def mean(self, mesh: Mesh, device: torch.device) -> float | None:
        """Returns the mean of the finite averages of all features, None if there are none. Collective.

        Args:
            mesh: the mesh, as this rank sees it.
            device: device of the collective.
        """
        tracked = self._averages()
        finite = tracked.isfinite()
        sums = torch.stack([torch.where(finite, tracked, 0.0).sum(), finite.sum().double()])
        total, count = mesh.feature.sum(sums.to(device)).tolist()
        return total / count if count else None

    def tensors(self) -> dict[str, Tensor]:
        """Returns the live tensors by name, one row per local feature."""
        return {"threshold.total": self.total, "threshold.weight": self.weight}
