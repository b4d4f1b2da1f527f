"""Adam and its schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from distsae.errors import WrongInput
from distsae.training.engines.moments import MomentsName

__all__ = ["OptimizerConfig"]

_BASE_RATE, _BASE_WIDTH = 1.6e-3, 1 << 14


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam and its schedule: linear warm-up, constant, decay.

    Args:
        lr: learning rate; `auto` is `1.6e-3 / sqrt(d_sae / 16384)`, good for runs of some hundred to a few thousand
            steps; longer ones want less.
        beta1: decay of the mean of gradients.
        beta2: decay of the mean of their squares.
        eps: added to the root of the second moment. Small, since the loss is an average over a batch's tokens and a
            rare feature's gradients are tiny.
        warmup_share: share of the steps that warm up.
        decay_share: share of the steps that decay.
        decay: how they decay: along a line, or along half a cosine.
        final_share: share of the peak rate that is left at the end.
        clip_norm: largest global norm of the gradients; none by default.
        state: how Adam's moments of both matrices are kept between steps; bf16 takes half the memory of fp32, int8 a
            quarter.
    """

    lr: Literal["auto"] | float = "auto"
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-10
    warmup_share: float = 0.05
    decay_share: float = 0.2
    decay: Literal["linear", "cosine"] = "linear"
    final_share: float = 0.0
    clip_norm: float | None = None
    state: MomentsName = "fp32"

    def __post_init__(self) -> None:
        if self.lr != "auto" and not self.lr > 0:
            raise WrongInput(f"`optimizer.lr` (={self.lr}) must be positive, or auto")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise WrongInput(f"`optimizer.{name}` (={getattr(self, name)}) must be at least 0 and below 1")
        if not self.eps >= 0:
            raise WrongInput(f"`optimizer.eps` (={self.eps}) must not be negative")
        if not (self.warmup_share >= 0 and self.decay_share >= 0 and self.warmup_share + self.decay_share <= 1):
            raise WrongInput(
                f"`optimizer.warmup_share` (={self.warmup_share}) and `optimizer.decay_share` (={self.decay_share}) "
                "must not be negative and sum to at most 1"
            )
        if not 0 <= self.final_share <= 1:
            raise WrongInput(f"`optimizer.final_share` (={self.final_share}) must be between 0 and 1")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise WrongInput(f"`optimizer.clip_norm` (={self.clip_norm}) must be positive")
        if self.state not in get_args(MomentsName):
            raise WrongInput(f"`optimizer.state` (={self.state}) must be fp32, bf16 or int8")

    def peak_rate(self, d_sae: int) -> float:
        """Returns the learning rate of the constant part for an SAE of `d_sae` features."""
        return _BASE_RATE * (_BASE_WIDTH / d_sae) ** 0.5 if self.lr == "auto" else self.lr

    def rate(self, step: int, steps: int, d_sae: int) -> float:
        """Returns the learning rate of step `step` (counted from 0) of `steps`."""
        warm = (step + 1) / max(round(self.warmup_share * steps), 1)
        left = min((steps - step) / max(round(self.decay_share * steps), 1), 1.0)
        shape = left if self.decay == "linear" else (1 - math.cos(math.pi * left)) / 2
        return self.peak_rate(d_sae) * min(1.0, warm, self.final_share + (1 - self.final_share) * shape)
