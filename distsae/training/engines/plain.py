"""The plain engine: Adam on every rank's own rows, in blocks that fit in the processor's cache, or whole on a GPU.

One pass over the rows does everything. For each block, gradients are summed from the matches, those of the decoder are
projected, their norm is measured, Adam updates the rows, decoder rows are brought back to unit norm, and the encoder
rows are copied into the prefilter. On a GPU one operation does all of it.

By default every data rank updates all rows. With `OptimizerConfig.divide_moments` each updates a part of them, and has
the moments of this part alone; the results are the same bit for bit (`row_division.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from distsae.checkpoint import Shard, Streamed
from distsae.collective import Solo
from distsae.kernels import AdamStep, UpdatedRows, moments_of
from distsae.model import FeatureShard, project_out
from distsae.parallel import Mesh
from distsae.training.engines.optimizer import OptimizerConfig
from distsae.training.engines.row_division import SENT_BYTES, RowDivision, rows_of_a_rank
from distsae.training.step.gradients import Gradients

__all__ = ["PlainEngine", "block_rows", "rows_with_moments"]

_CPU_BLOCK_BYTES = 3 << 19
"""Bytes of one matrix in a block on CPU. Small blocks stay in the cache, large ones need fewer calls: with rows of 768
numbers, 512 rows were the best size or close to it on one thread and on two."""

_GPU_BLOCK_BYTES = 1 << 26

_OF_ROWS = ("W_enc", "W_dec", "b_enc")
"""Parameters that have a row or a number for each feature."""


class PlainEngine:
    """Adam on this rank's features, with the gradients of the global batch.

    Args:
        shard: parameters to update.
        mesh: the mesh, as this rank sees it.
        config: settings of Adam.
        seed: seed of the run, for the rounding of moments that are not in fp32.
        block_bytes: bytes of one matrix in a block of rows; by default a size that is fast on the shard's device.
    """

    def __init__(
        self,
        shard: FeatureShard,
        mesh: Mesh,
        config: OptimizerConfig,
        seed: int = 0,
        *,
        block_bytes: int | None = None,
    ) -> None:
        self._shard = shard
        self._mesh = mesh
        self._config = config
        self._named = {name: parameter.detach() for name, parameter in shard.named_parameters()}
        self._steps = {name: torch.zeros(()) for name in self._named}
        if block_bytes is None:
            block_bytes = _CPU_BLOCK_BYTES if shard.W_enc.device.type == "cpu" else _GPU_BLOCK_BYTES
        row_bytes = shard.W_enc[:1].numel() * shard.W_enc.element_size()
        self._block_rows = max(1, block_bytes // row_bytes)
        self._updates_whole = shard.W_enc.dtype == torch.float32 and shard.kernels.update_rows is not None
        ranks = mesh.data if config.divide_moments else Solo()
        divided_by = 1 if self._updates_whole else self._block_rows
        sent_bytes = SENT_BYTES[shard.W_enc.device.type != "cpu"]
        self._division = RowDivision(ranks, len(shard.features), divided_by, sent_bytes)
        first = shard.features.start + self._division.own.start
        self._moments = {name: moments_of(name, self._own(name), config.state, first, seed) for name in self._named}

    @torch.no_grad()
    def update(self, gradients: Gradients, learning_rate: float) -> float:
        """Gathers matches from the data axis, sums their gradients, clips and updates; see `Engine.update`.

        All data ranks sum the same gradients from the same matches, so they make the same update.
        """
        whole = gradients.gathered(self._mesh.data)
        b_enc = whole.b_enc()
        for steps in self._steps.values():
            steps += 1
        config = self._config
        step = int(self._steps["W_enc"])
        numbers = AdamStep(step, learning_rate, config.beta1, config.beta2, config.eps, config.decoder_rate)
        if config.clip_norm is None:
            norm, b_dec = self._pass(whole, b_enc, numbers, 1.0)
            scale = 1.0
        else:
            norm, b_dec = self._pass(whole, b_enc, None, 1.0)
            scale = min(config.clip_norm / norm, 1.0) if norm > 0 else 1.0
            self._pass(whole, b_enc, numbers, scale)
        self._adam(("b_dec",), slice(None), slice(None), (b_dec * scale,), numbers)
        self._exchange_rows()
        return norm

    def _pass(self, whole: Gradients, b_enc: Tensor, numbers: AdamStep | None, scale: float) -> tuple[float, Tensor]:
        """Projects, measures and updates, block by block of rows. Collective.

        Returns the global gradient norm and the gradient of `b_dec`.

        Args:
            whole: gradients of the global batch.
            b_enc: gradient of `b_enc`.
            numbers: count and rates of the Adam step that updates the rows; None only measures the norm.
            scale: factor for the gradients that Adam gets.
        """
        update = self._update_whole if self._updates_whole else self._update_in_blocks
        through, squares = update(whole, b_enc, numbers, scale)
        # One all-reduce for both. `b_dec` is replicated on the feature axis, so its norm is added once, afterwards.
        message = self._mesh.feature.sum(torch.cat([through.double(), squares[None]]))
        through, squares = message[:-1].to(through.dtype), message[-1]
        b_dec = whole.b_dec_as_decoder_bias() - through
        return float((squares + b_dec.double().square().sum()).sqrt()), b_dec

    def _update_whole(
        self, whole: Gradients, b_enc: Tensor, numbers: AdamStep | None, scale: float
    ) -> tuple[Tensor, Tensor]:
        """Updates this rank's rows in one operation; see `_pass` for the arguments. Collective if rows are divided.

        Returns the part of the gradient of `b_dec` that goes through the encoder rows of the shard, and the sum of the
        squares of the gradients of the shard, fp64.
        """
        through = b_enc @ self._named["W_enc"]
        step = int(self._steps["W_enc"])
        own = slice(self._division.own.start, self._division.own.stop)
        live = {name: (self._own(name), self._moments[name].kept(step)) for name in _OF_ROWS}
        low = self._shard.prefilter_rows() if numbers is not None else None
        rows = UpdatedRows(live["W_enc"], live["W_dec"], live["b_enc"], None if low is None else low[own])
        update_rows = self._shard.kernels.update_rows
        assert update_rows is not None
        if self._division.own:
            terms = whole.row_terms(self._division.own)
            energy = update_rows(terms, whole.centred, b_enc[own], rows, numbers, scale)
        else:
            energy = b_enc.new_zeros(0)
        return through, b_enc.double().square().sum() + self._division.of_all_rows(energy).double().sum()

    def _update_in_blocks(
        self, whole: Gradients, b_enc: Tensor, numbers: AdamStep | None, scale: float
    ) -> tuple[Tensor, Tensor]:
        """Does what `_update_whole` does, one block of rows after the other."""
        division = self._division
        through_blocks = b_enc.new_zeros(division.own_blocks, self._named["b_dec"].shape[0])
        squares_of_blocks = torch.zeros(division.own_blocks, dtype=torch.float64, device=b_enc.device)
        blocks = whole.row_blocks(self._block_rows, division.own)
        for block, (first, last, W_enc, W_dec) in enumerate(blocks):
            rows = slice(first, last)
            project_out(W_dec, self._named["W_dec"][rows])
            through_blocks[block] = b_enc[rows] @ self._named["W_enc"][rows]
            # Not `dot`: BLAS sums in an order that depends on the alignment of the numbers in memory.
            squares_of_blocks[block] = sum(torch.linalg.vector_norm(part).double() ** 2 for part in (W_enc, W_dec))
            if numbers is not None:
                kept = slice(first - division.own.start, last - division.own.start)
                self._adam(("W_enc", "b_enc"), rows, kept, _scaled((W_enc, b_enc[rows]), scale), numbers)
                decoder = replace(numbers, lr=numbers.decoder_rate * numbers.lr)
                self._adam(("W_dec",), rows, kept, _scaled((W_dec,), scale), decoder)
                self._shard.normalise_decoder(first, last)
                self._shard.refresh_prefilter(first, last)
        through = torch.zeros_like(self._named["b_dec"])
        for part in division.of_all_blocks(through_blocks):
            through += part
        squares = b_enc.double().square().sum()
        for part in division.of_all_blocks(squares_of_blocks):
            squares += part
        return through, squares

    def _adam(
        self, names: tuple[str, ...], rows: slice, kept: slice, gradients: tuple[Tensor, ...], numbers: AdamStep
    ) -> None:
        """Updates some rows of the named parameters and their moments.

        Args:
            names: names of the parameters.
            rows: rows to update.
            kept: the same rows, counted from the first whose moments this rank has.
            gradients: gradient of these rows, for each parameter.
            numbers: numbers of the Adam step.
        """
        parameters = [self._named[name][rows] for name in names]
        moments = [self._moments[name].read(kept) for name in names]
        means, squares = (list(parts) for parts in zip(*moments, strict=True))
        self._shard.kernels.adam(parameters, list(gradients), means, squares, numbers)
        for name, moment in zip(names, moments, strict=True):
            self._moments[name].write(kept, *moment, numbers.step)

    def _exchange_rows(self) -> None:
        """Gets the rows that other data ranks have updated. Collective if rows are divided."""
        for name in _OF_ROWS:
            self._division.exchange(self._named[name])
        for first, last in self._division.others(self._block_rows):
            self._shard.refresh_prefilter(first, last)

    def _own(self, name: str) -> Tensor:
        """Returns the rows of a parameter that this rank updates, live: of `b_dec` every rank updates all."""
        own = self._division.own
        return self._named[name][own.start : own.stop] if name in _OF_ROWS else self._named[name]

    def take_over_encoder(self) -> None:
        """Does nothing: updates are made to the rows themselves."""

    def restore(self, tensors: Mapping[str, object]) -> None:
        """Does nothing: `tensors` returned the live tensors, which the checkpoint has filled."""

    def tensors(self) -> dict[str, Tensor | Streamed | Shard]:
        """Returns the live steps and moments of Adam as `adam.NAME.PARAMETER`."""
        found: dict[str, Tensor | Streamed | Shard] = {}
        first = self._shard.features.start + self._division.own.start
        for name, moments in self._moments.items():
            found[f"adam.step.{name}"] = self._steps[name]
            for part, tensor in moments.tensors().items():
                is_part = self._division.is_divided and name in _OF_ROWS
                value = Shard(tensor, first, self._shard.d_sae, divided=True) if is_part else tensor
                found[f"adam.{part}.{name}"] = value
        return found


def rows_with_moments(features: int, d_in: int, ranks: int, *, gpu: bool) -> int:
    """Returns for how many features the first of the ranks that divide Adam's moments keeps them.

    Args:
        features: number of features of the shard.
        d_in: width of the rows, which are in fp32.
        ranks: number of data ranks.
        gpu: whether rows are updated on a GPU, by an operation that updates all of them.
    """
    return rows_of_a_rank(features, 1 if gpu else block_rows(d_in), ranks)


def block_rows(d_in: int) -> int:
    """Returns the rows in fp32 of a block of the update on a CPU, of which the last may have fewer."""
    return max(1, _CPU_BLOCK_BYTES // (4 * d_in))


def _scaled(gradients: tuple[Tensor, ...], scale: float) -> tuple[Tensor, ...]:
    return gradients if scale == 1 else tuple(gradient * scale for gradient in gradients)
