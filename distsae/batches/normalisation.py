"""Normalises activations for training, with the statistics that were sealed with the store.

`scale` gives them the mean norm `sqrt(d_in)`, so that one learning rate and one budget of matches suit any layer of any
model. `centre` first subtracts their mean, and gives the rest the root mean square norm `sqrt(d_in)`. Both maps are
affine, so they fold into an SAE's biases and thresholds, and a finished SAE works on raw activations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from distsae.store import Statistics

__all__ = ["Normalisation", "NormalisationName"]

NormalisationName = Literal["none", "scale", "centre"]


@dataclass(frozen=True, eq=False)
class Normalisation:
    """The map `(x - shift) * scale`.

    Args:
        scale: factor, positive.
        shift: vector that is subtracted first, fp32 `[d_in]`; None for 0.
    """

    scale: float
    shift: Tensor | None

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

    def apply(self, rows: Tensor) -> Tensor:
        """Normalises raw rows `[..., d_in]` in place and returns them."""
        if self.shift is not None:
            rows.sub_(self.shift.to(rows.device))
        return rows.mul_(self.scale) if self.scale != 1.0 else rows

    def undo(self, rows: Tensor) -> Tensor:
        """Maps normalised rows, or a bias that is added to normalised rows, back to raw activations."""
        raw = rows / self.scale
        return raw if self.shift is None else raw + self.shift.to(raw.device)
