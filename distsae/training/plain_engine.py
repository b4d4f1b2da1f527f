"""The plain engine: torch collectives for gradients, Adam on every rank's own rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from distsae.errors import WrongInput
from distsae.model import FeatureShard
from distsae.parallel import Mesh

__all__ = ["OptimizerConfig", "PlainEngine"]

_BASE_RATE, _BASE_WIDTH = 4e-4, 1 << 14


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam and its schedule: linear warm-up, constant, linear decay to zero.

    Args:
        lr: learning rate; `auto` is `4e-4 / sqrt(d_sae / 16384)`.
        beta1: decay of the mean of gradients.
        beta2: decay of the mean of their squares.
        eps: added to the root of the second moment. Small, since the loss is an average over a batch's tokens and a
            rare feature's gradients are tiny.
        warmup_share: share of the steps that warm up.
        decay_share: share of the steps that decay.
        clip_norm: largest global norm of the gradients; none by default.
    """

    lr: Literal["auto"] | float = "auto"
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-10
    warmup_share: float = 0.05
    decay_share: float = 0.2
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        if self.lr != "auto" and not self.lr > 0:
            raise WrongInput(f"`optimizer.lr` (={self.lr}) must be positive, or auto")
        if not (self.warmup_share >= 0 and self.decay_share >= 0 and self.warmup_share + self.decay_share <= 1):
            raise WrongInput(
                f"`optimizer.warmup_share` (={self.warmup_share}) and `optimizer.decay_share` (={self.decay_share}) "
                "must not be negative and sum to at most 1"
            )
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise WrongInput(f"`optimizer.clip_norm` (={self.clip_norm}) must be positive")

    def peak_rate(self, d_sae: int) -> float:
        """Returns the learning rate of the constant part for an SAE of `d_sae` features."""
        return _BASE_RATE * (_BASE_WIDTH / d_sae) ** 0.5 if self.lr == "auto" else self.lr

    def rate(self, step: int, steps: int, d_sae: int) -> float:
        """Returns the learning rate of step `step` (counted from 0) of `steps`."""
        warm = (step + 1) / max(round(self.warmup_share * steps), 1)
        decay = (steps - step) / max(round(self.decay_share * steps), 1)
        return self.peak_rate(d_sae) * min(1.0, warm, decay)


class PlainEngine:
    """Adam on this rank's features; gradients are summed over the data axis.

    Args:
        shard: the parameters.
        mesh: this process's place.
        config: the optimizer.
    """

    def __init__(self, shard: FeatureShard, mesh: Mesh, config: OptimizerConfig) -> None:
        self._shard, self._mesh, self._clip_norm = shard, mesh, config.clip_norm
        self._named = dict(shard.named_parameters())
        self._adam = torch.optim.Adam(
            self._named.values(), lr=0.0, betas=(config.beta1, config.beta2), eps=config.eps, fused=True
        )
        for parameter in self._named.values():  # Adam makes its state at the first step; a checkpoint needs it before
            self._adam.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }

    @torch.no_grad()
    def update(self, learning_rate: float) -> float:
        """Sums gradients over the data axis, projects, clips, steps and renormalises; returns the gradient norm."""
        for parameter in self._named.values():
            assert parameter.grad is not None
            parameter.grad = self._mesh.data.sum(parameter.grad)
        self._shard.project_decoder_gradient()
        norm = self._gradient_norm()
        if self._clip_norm is not None and norm > self._clip_norm:
            for parameter in self._named.values():
                assert parameter.grad is not None
                parameter.grad.mul_(self._clip_norm / norm)
        self._adam.param_groups[0]["lr"] = learning_rate
        self._adam.step()
        self._shard.normalise_decoder()
        return norm

    def state(self) -> dict[str, Tensor]:
        """Returns Adam's moments and steps as `adam.NAME.PARAMETER`."""
        return {
            f"adam.{name}.{parameter_name}": tensor
            for parameter_name, parameter in self._named.items()
            for name, tensor in self._adam.state[parameter].items()
        }

    def _gradient_norm(self) -> float:
        squares = {
            name: parameter.grad.square().sum() for name, parameter in self._named.items() if parameter.grad is not None
        }
        # b_dec is replicated on the feature axis: counted once.
        replicated = squares.pop("b_dec")
        return float((self._mesh.feature.sum(torch.stack(list(squares.values())).sum()) + replicated).sqrt())
