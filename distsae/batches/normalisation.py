"""Normalises activations for training, with the statistics that were sealed with the store.

`scale` gives them the mean norm `sqrt(d_in)`, so that one learning rate and one budget of matches suit any layer of any
model. `centre` first subtracts their mean, and gives the rest the root mean square norm `sqrt(d_in)`. Both maps are
affine, so they fold into an SAE's biases and thresholds, and a finished SAE works on raw activations. `token` brings
every row to the norm `sqrt(d_in)`; the finished SAE does the same with each row, and brings the reconstruction back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from distsae.row_scales import row_scales, row_scales_alone
from distsae.store import Statistics

__all__ = ["Normalisation", "NormalisationName"]

NormalisationName = Literal["none", "scale", "centre", "token"]


@dataclass(frozen=True, eq=False)
class Normalisation:
    """The map `(x - shift) * scale`, or the one that brings each row to the norm `sqrt(d_in)`.

    Args:
        scale: factor, positive.
        shift: vector that is subtracted first, fp32 `[d_in]`; None for 0.
        token: whether each row is brought to the norm `sqrt(d_in)`; then `scale` is 1 and `shift` None.
    """

    scale: float
    shift: Tensor | None
    token: bool = False

    @classmethod
    def of(cls, statistics: Statistics, name: NormalisationName) -> Normalisation:
        """Returns the normalisation with this name for rows with these statistics."""
        root = math.sqrt(len(statistics.mean))
        match name:
            case "none":
                return cls(1.0, None)
            case "scale":
                return cls(root / statistics.mean_norm, None)
            case "centre":
                return cls(root / math.sqrt(statistics.variance), statistics.mean)
            case "token":
                return cls(1.0, None, token=True)

    def moments(self, statistics: Statistics) -> tuple[Tensor, float]:
        """Returns the mean of normalised rows, fp32 `[d_in]`, and their variance `E ||x - mean||^2`.

        Args:
            statistics: statistics of the raw rows.
        """
        if self.token:
            d_in = len(statistics.mean)
            assert statistics.mean_direction is not None
            assert statistics.direction_variance is not None
            return statistics.mean_direction * math.sqrt(d_in), statistics.direction_variance * d_in
        return self.apply(statistics.mean.clone()), statistics.variance * self.scale**2

    def apply(self, rows: Tensor) -> Tensor:
        """Normalises raw rows `[..., d_in]` in place and returns them."""
        if self.token:
            return rows.div_(row_scales_alone(rows) if rows.is_cuda else row_scales(rows))
        if self.shift is not None:
            rows.sub_(self.shift.to(rows.device))
        return rows.mul_(self.scale) if self.scale != 1.0 else rows

    def on(self, device: torch.device) -> Normalisation:
        """Returns the same normalisation with its vector on a device."""
        return replace(self, shift=None if self.shift is None else self.shift.to(device))

    def scales(self, rows: Tensor) -> Tensor:
        """Returns the factors that bring differences of normalised rows back to raw ones, `[rows, 1]` or `[1]`.

        Args:
            rows: the raw rows, `[rows, d_in]`.
        """
        return row_scales(rows) if self.token else rows.new_full((1,), 1 / self.scale)

    def undo(self, bias: Tensor) -> Tensor:
        """Maps a bias that is added to normalised rows back to raw activations; under `token` it stays as it is."""
        raw = bias / self.scale
        return raw if self.shift is None else raw + self.shift.to(raw.device)
