"""Settings of the auxiliary loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distsae.errors import WrongInput

__all__ = ["AuxiliaryConfig"]

_PARTS = 6
"""A run is this many times as long as a window that is chosen for it."""

_LONGEST = 1_000_000
"""Longest window that is chosen, in tokens."""


@dataclass(frozen=True, kw_only=True)
class AuxiliaryConfig:
    """The auxiliary loss that revives underused features.

    Args:
        alpha: weight of the auxiliary loss; the main loss is the FVU.
        k_per_k: matches per token of the auxiliary reconstruction, as a multiple of `sae.k`.
        rho: share of the Zipf curve's value at a feature's rank; a feature with a density below it is underutilised.
        dead_after_tokens: number of tokens without a match after which a feature is dead; auto is a sixth of the run,
            but at most 1,000,000.
        window_tokens: number of tokens over which densities are measured; auto as for `dead_after_tokens`.
        refresh_steps: number of steps between two fits of the Zipf curve.
    """

    alpha: float = 1 / 32
    k_per_k: float = 2.0
    rho: float = 0.1
    dead_after_tokens: int | Literal["auto"] = "auto"
    window_tokens: int | Literal["auto"] = "auto"
    refresh_steps: int = 10

    def __post_init__(self) -> None:
        for name in ("alpha", "k_per_k", "dead_after_tokens", "window_tokens", "refresh_steps"):
            value = getattr(self, name)
            if value != "auto" and value <= 0:
                raise WrongInput(f"`auxiliary.{name}` (={value}) must be positive")
        if not 0 < self.rho <= 1:
            raise WrongInput(f"`auxiliary.rho` (={self.rho}) must be in (0, 1]")

    def dead_after(self, tokens: int) -> int:
        """Returns the number of tokens without a match after which a feature is dead, in a run of `tokens` tokens."""
        return _chosen(tokens) if self.dead_after_tokens == "auto" else self.dead_after_tokens

    def window(self, tokens: int) -> int:
        """Returns the number of tokens over which densities are measured, in a run of `tokens` tokens."""
        return _chosen(tokens) if self.window_tokens == "auto" else self.window_tokens


def _chosen(tokens: int) -> int:
    return min(max(tokens // _PARTS, 1), _LONGEST)
