"""Settings of the auxiliary loss."""

from __future__ import annotations

from dataclasses import dataclass

from distsae.errors import WrongInput

__all__ = ["AuxiliaryConfig"]


@dataclass(frozen=True, kw_only=True)
class AuxiliaryConfig:
    """The auxiliary loss that revives underused features.

    Args:
        alpha: weight of the auxiliary loss; the main loss is the FVU.
        k_per_k: matches per token of the auxiliary reconstruction, as a multiple of `sae.k`.
        rho: share of the Zipf curve's value at a feature's rank; a feature with a density below it is underutilised.
        dead_after_tokens: number of tokens without a match after which a feature is dead.
        window_tokens: number of tokens over which densities are measured.
        refresh_steps: number of steps between two fits of the Zipf curve.
    """

    alpha: float = 1 / 32
    k_per_k: float = 2.0
    rho: float = 0.1
    dead_after_tokens: int = 1_000_000
    window_tokens: int = 1_000_000
    refresh_steps: int = 10

    def __post_init__(self) -> None:
        for name in ("alpha", "k_per_k", "dead_after_tokens", "window_tokens", "refresh_steps"):
            if getattr(self, name) <= 0:
                raise WrongInput(f"`auxiliary.{name}` (={getattr(self, name)}) must be positive")
        if not 0 < self.rho <= 1:
            raise WrongInput(f"`auxiliary.rho` (={self.rho}) must be in (0, 1]")
