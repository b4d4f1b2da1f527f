"""What is done to activations before training sees them, from the statistics that were sealed with the store.

`scale` makes their mean norm `sqrt(d_in)`, so that one learning rate and one budget of matches serve any layer of any
model. `centre` first takes their mean away, and makes the root mean square norm of what is left `sqrt(d_in)`. Both are
affine maps, so that they fold into an SAE's biases and thresholds, and a finished SAE works on raw activations.
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
        scale: positive.
        shift: fp32 `[d_in]`, or None for 0.
    """

    scale: float
    shift: Tensor | None

    @classmethod
    def of(cls, statistics: Statistics, name: NormalisationName) -> Normalisation:
        """Returns the normalisation of that name for rows with these statistics."""
        root = math.sqrt(len(statistics.mean))
        match name:
            case "none":
                return cls(1.0, None)
            case "scale":
                return cls(root / statistics.mean_norm, None)
            case "centre":
                return cls(root / math.sqrt(statistics.variance), statistics.mean)

    def apply(self, rows: Tensor) -> Tensor:
        """Returns raw rows `[..., d_in]` normalised, in their own memory."""
        if self.shift is not None:
            rows.sub_(self.shift.to(rows.device))
        return rows.mul_(self.scale) if self.scale != 1.0 else rows

    def undo(self, rows: Tensor) -> Tensor:
        """Returns normalised rows, or a bias added to such, as they are among raw ones."""
        raw = rows / self.scale
        return raw if self.shift is None else raw + self.shift.to(raw.device)
