"""The plain engine: Adam on every rank's own rows, a few at a time while the processor's cache holds them.

One pass over the rows does everything: their gradients are summed from the matches, the decoder's are projected, both
are measured, Adam moves the rows, the decoder's return to the unit sphere, and the prefilter hears of the encoder's.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from distsae.checkpoint import Streamed
from distsae.kernels import AdamStep
from distsae.model import FeatureShard, project_out
from distsae.parallel import Mesh
from distsae.training.engines.moments import moments_of
from distsae.training.engines.optimizer import OptimizerConfig
from distsae.training.step.gradients import Gradients

__all__ = ["PlainEngine"]

_ROWS = ("W_enc", "W_dec", "b_enc")
_BLOCK_BYTES = {"cpu": 3 << 19, "cuda": 1 << 26}
"""Of one matrix in a block. On CPU small blocks stay in the cache and large ones spend less on calls: of 768 numbers,
512 rows were best or near it on one thread and on two."""


class PlainEngine:
    """Adam on this rank's features, with the gradients of the global batch.

    Args:
        shard: the parameters.
        mesh: this process's place.
        config: the optimizer.
        seed: of the run; rounds moments that are not in fp32.
    """

    def __init__(self, shard: FeatureShard, mesh: Mesh, config: OptimizerConfig, seed: int = 0) -> None:
        self._shard = shard
        self._mesh = mesh
        self._config = config
        self._named = {name: parameter.detach() for name, parameter in shard.named_parameters()}
        self._moments = {
            name: moments_of(name, parameter, config.state, shard.features.start, seed)
            for name, parameter in self._named.items()
        }
        self._steps = {name: torch.zeros(()) for name in self._named}
        row_bytes = shard.W_enc[:1].numel() * shard.W_enc.element_size()
        self._block = max(1, _BLOCK_BYTES.get(shard.W_enc.device.type, 1 << 26) // row_bytes)

    @torch.no_grad()
    def update(self, gradients: Gradients, learning_rate: float) -> float:
        """Sums gradients over the data axis, projects, clips, steps and renormalises; returns the gradient norm."""
        whole = gradients.gathered(self._mesh.data)
        b_enc = whole.b_enc()
        for steps in self._steps.values():
            steps += 1
        config = self._config
        numbers = AdamStep(int(self._steps["W_enc"]), learning_rate, config.beta1, config.beta2, config.eps)
        if config.clip_norm is None:
            norm, b_dec = self._pass(whole, b_enc, numbers, 1.0)
            scale = 1.0
        else:
            norm, b_dec = self._pass(whole, b_enc, None, 1.0)
            scale = min(config.clip_norm / norm, 1.0) if norm > 0 else 1.0
            self._pass(whole, b_enc, numbers, scale)
        self._adam(("b_dec",), slice(None), (b_dec * scale,), numbers)
        return norm

    def _pass(self, whole: Gradients, b_enc: Tensor, numbers: AdamStep | None, scale: float) -> tuple[float, Tensor]:
        """Goes over all rows once; returns the global gradient norm and the gradient of `b_dec`.

        Args:
            whole: the gradients of the global batch.
            b_enc: that of `b_enc`.
            numbers: what Adam needs to move the rows; None only measures.
            scale: of the gradients that Adam gets.
        """
        through = torch.zeros_like(self._named["b_dec"])
        squares = b_enc.double().square().sum()
        for first, last, W_enc, W_dec in whole.row_blocks(self._block):
            rows = slice(first, last)
            project_out(W_dec, self._named["W_dec"][rows])
            through += b_enc[rows] @ self._named["W_enc"][rows]
            # Not `dot`: BLAS sums in an order that depends on where in memory the numbers are.
            squares += sum(torch.linalg.vector_norm(part).double() ** 2 for part in (W_enc, W_dec))
            if numbers is not None:
                parts = (W_enc, W_dec, b_enc[rows])
                self._adam(_ROWS, rows, parts if scale == 1 else tuple(part * scale for part in parts), numbers)
                self._shard.normalise_decoder(first, last)
                self._shard.refresh(first, last)
        # One message. b_dec is replicated on the feature axis: it is summed, and then counted once.
        message = self._mesh.feature.sum(torch.cat([through.double(), squares[None]]))
        through, squares = message[:-1].to(through.dtype), message[-1]
        b_dec = whole.b_dec_as_decoder_bias() - through
        return float((squares + b_dec.double().square().sum()).sqrt()), b_dec

    def _adam(self, names: tuple[str, ...], rows: slice, gradients: tuple[Tensor, ...], numbers: AdamStep) -> None:
        parameters = [self._named[name][rows] for name in names]
        moments = [self._moments[name].read(rows) for name in names]
        means, squares = (list(parts) for parts in zip(*moments, strict=True))
        self._shard.kernels.adam(parameters, list(gradients), means, squares, numbers)
        for name, moment in zip(names, moments, strict=True):
            self._moments[name].write(rows, *moment, numbers.step)

    def restore(self, state: Mapping[str, object]) -> None:
        """Does nothing: `state` gave the live tensors, and whoever filled them has restored the engine."""

    def tensors(self) -> dict[str, Tensor | Streamed]:
        """Returns Adam's steps and moments, as they are kept, as `adam.NAME.PARAMETER`."""
        state: dict[str, Tensor | Streamed] = {}
        for name, moments in self._moments.items():
            state[f"adam.step.{name}"] = self._steps[name]
            state |= {f"adam.{part}.{name}": tensor for part, tensor in moments.tensors().items()}
        return state
