"""The plain engine: torch collectives for gradients, Adam on every rank's own rows."""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.model import FeatureShard
from distsae.parallel import Mesh
from distsae.training.optimizer import OptimizerConfig

__all__ = ["PlainEngine"]


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

    def restore(self, state: dict[str, Tensor]) -> None:
        """Does nothing: `state` gave the live tensors, and whoever filled them has restored the engine."""

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
