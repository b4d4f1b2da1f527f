"""Adam and its schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from distsae.errors import WrongInput
from distsae.kernels import MomentsName

__all__ = ["OptimizerConfig"]

_BASE_RATE, _BASE_WIDTH = 2.2e-3, 1 << 14
_BASE_STEPS = 300


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam and its learning rate, which warms up linearly, stays constant, and decays.

    Args:
        lr: learning rate between warm-up and decay; `auto` is `2.2e-3 / sqrt(d_sae / 16384)` for up to 300 steps, and
            falls with the root of the number of steps in longer runs.
        decoder_rate: learning rate of the decoder rows, as a multiple of the learning rate of everything else.
        beta1: decay per step of the mean of the gradients.
        beta2: decay per step of the mean of the squared gradients.
        eps: number added to the root of the second moment. It is small because the loss is a mean over the tokens of a
            batch, and the gradients of rare features are tiny.
        warmup_share: share of the steps in which the learning rate rises.
        decay_share: share of the steps in which the learning rate falls.
        decay: shape of the decay: a line, or half a cosine.
        final_share: learning rate at the end, as a share of `lr`.
        clip_norm: largest global norm of the gradients, above which they are scaled down; by default there is none.
        state: storage of Adam's moments of both matrices between steps: bf16 takes half the memory of fp32, int8 a
            quarter.
        divide_moments: whether the plain engine divides Adam's moments and the update over the data ranks, which then
            send each other the new weights (ZeRO-1). Saves memory where `mesh.data` is above 1, and changes no number.
            Without it every data rank updates all rows of its features, and no weights are sent.
    """

    lr: Literal["auto"] | float = "auto"
    decoder_rate: float = 3.0
    beta1: float = 0.8
    beta2: float = 0.95
    eps: float = 1e-10
    warmup_share: float = 0.05
    decay_share: float = 0.2
    decay: Literal["linear", "cosine"] = "linear"
    final_share: float = 0.0
    clip_norm: float | None = None
    state: MomentsName = "fp32"
    divide_moments: bool = False

    def __post_init__(self) -> None:
        if self.lr != "auto" and not self.lr > 0:
            raise WrongInput(f"`optimizer.lr` (={self.lr}) must be positive, or auto")
        if not 0 < self.decoder_rate < math.inf:
            raise WrongInput(f"`optimizer.decoder_rate` (={self.decoder_rate}) must be positive; use 1 for equal rates")
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

    def peak_rate(self, d_sae: int, steps: int) -> float:
        """Returns the learning rate between warm-up and decay for `d_sae` features and a run of `steps` steps."""
        if self.lr != "auto":
            return self.lr
        return _BASE_RATE * math.sqrt(_BASE_WIDTH / d_sae * _BASE_STEPS / max(steps, _BASE_STEPS))

    def rate(self, step: int, steps: int, d_sae: int) -> float:
        """Returns the learning rate of step `step` (counted from 0) of `steps`."""
        warm = (step + 1) / max(round(self.warmup_share * steps), 1)
        left = min((steps - step) / max(round(self.decay_share * steps), 1), 1.0)
        shape = left if self.decay == "linear" else (1 - math.cos(math.pi * left)) / 2
        return self.peak_rate(d_sae, steps) * min(1.0, warm, self.final_share + (1 - self.final_share) * shape)
