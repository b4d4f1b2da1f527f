"""The features of one rank: their encoder and decoder rows, their biases, and the replicated `b_dec`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from distsae.allocation import Chunks, ExactScores, Scores
from distsae.kernels import CPU, Kernels, MatrixRoom, PrefilteredScores, PrefilterRows, UpperBounds, prefilter_tokens
from distsae.model.selection_memory import SELECTION_MB, chunk_bounds, selection_mb_on
from distsae.seeds import torch_generator

__all__ = ["FeatureShard", "initial_rows", "project_out", "score_chunks"]

_REFRESH_ROWS = 1 << 10

_SEED_BLOCK = 256
"""Number of consecutive features whose initial rows come from one random generator."""


class FeatureShard(nn.Module):
    """The parameters of the features `features` of an SAE of `d_sae` features.

    Both matrices are feature-major, `[d_sae_local, d_in]`: one feature is one contiguous row.

    Args:
        d_in: width of the activations.
        d_sae: number of features over all ranks.
        features: global indices of this rank's features.
        b_dec: initial decoder bias, fp32 `[d_in]`, usually the mean activation; the same on every rank.
        seed: seed of the initial rows, which depend on global feature indices and not on the mesh.
        selection_mb: memory in MiB for one chunk of scores and the work of selecting from it.
        kernels: operations of a step; by default the fast ones for a CPU.
        prefilter: whether candidates are found by a bf16 product and only these are scored in fp32.
        device: device of the parameters.

    Attributes:
        rescored: number of scores so far that the prefilter could not rule out, so that they were computed in fp32.
    """

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        features: range,
        b_dec: Tensor,
        seed: int,
        selection_mb: float = SELECTION_MB,
        kernels: Kernels = CPU,
        prefilter: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        rows = initial_rows(d_in, features, seed, device)
        self.d_sae = d_sae
        self.features = features
        self.kernels = kernels
        self._selection_mb = selection_mb
        self._prefilter = prefilter
        self.rescored = 0
        self._low: PrefilterRows | None = None
        self._low_versions = (-1, -1)  # of the parameters that `_low` was copied from
        self._asked_once = False  # whether places were the only question about the last chunk of bounds
        self.W_enc = nn.Parameter(rows.clone())
        self.W_dec = nn.Parameter(rows)
        self.b_enc = nn.Parameter(torch.zeros(len(features), device=device))
        self.b_dec = nn.Parameter(b_dec.detach().to(device, copy=True))

    def passes(self, centred: Tensor, left_out: Tensor | None = None) -> Chunks:
        """Returns a function that starts a pass over the scores of a batch, as `encode_chunks` does.

        With a prefilter on a GPU, the first pass does not wait to see whether all bounds are certain to be finite. Its
        scores say by `doubt` if they are not, and the next pass computes all scores.

        Args:
            centred: `x - b_dec`, `[tokens, d_in]`.
            left_out: indices of tokens whose scores are all 0, int64; None for none.
        """
        is_first = self._prefilter and centred.is_cuda

        def chunks() -> Iterator[tuple[int, Scores]]:
            nonlocal is_first
            if not is_first:
                return self.encode_chunks(centred, left_out)
            is_first = False
            columns, low = prefilter_tokens(centred), self._low_precision()
            doubt = ~low.certain(columns)
            columns.masked_fill_(doubt, 0)  # no candidates, rather than no end of them
            if left_out is not None:
                columns[left_out] = 0
            return self._bounded_chunks(low, columns, centred, doubt)

        return chunks

    def encode_chunks(self, centred: Tensor, left_out: Tensor | None = None) -> Iterator[tuple[int, Scores]]:
        """Yields `(first local feature, scores)` chunk by chunk; each chunk overwrites the one before it.

        Args:
            centred: `x - b_dec`, `[tokens, d_in]`.
            left_out: indices of tokens whose scores are all 0, int64; None for none.
        """
        if self._prefilter:
            columns, low = prefilter_tokens(centred), self._low_precision()
            if low.certifies(columns):
                if left_out is not None:
                    columns[left_out] = 0  # an upper bound of 0 rules out every score
                return self._bounded_chunks(low, columns, centred)
        chunks = score_chunks(self.W_enc.detach(), self.b_enc.detach(), centred, self._selection_mb, left_out)
        return ((first, ExactScores(pre_acts)) for first, pre_acts in chunks)

    @torch.no_grad()
    def refresh_prefilter(self, first: int, last: int) -> None:
        """Copies some encoder rows, which an update has just changed, into the prefilter.

        Call it after changes that autograd cannot see; other changes are noticed.

        Args:
            first: local index of the first row.
            last: end of the rows, exclusive.
        """
        if self._low is not None:
            self._low.refresh(first, self.W_enc[first:last], self.b_enc[first:last])
            self._low_versions = self._versions()

    def prefilter_rows(self) -> Tensor | None:
        """Returns the prefilter's copy of the encoder rows, for an update that renews all of them; None without one."""
        if self._low is None or self._low.rows.device != self.W_enc.device:
            return None
        self._low_versions = self._versions()
        return self._low.rows

    def _low_precision(self) -> PrefilterRows:
        """Returns the prefilter's copy of the encoder rows, up to date."""
        if self._low is None or self._low.rows.device != self.W_enc.device:
            self._low = PrefilterRows(self.W_enc.shape[0], self.W_enc.shape[1], self.W_enc.device)
            self._low_versions = (-1, -1)
        if self._low_versions != self._versions():
            for first in range(0, len(self.features), _REFRESH_ROWS):
                self.refresh_prefilter(first, min(first + _REFRESH_ROWS, len(self.features)))
        return self._low

    def _versions(self) -> tuple[int, int]:
        return self.W_enc._version, self.b_enc._version

    def _bounded_chunks(
        self, low: PrefilterRows, columns: Tensor, centred: Tensor, doubt: Tensor | None = None
    ) -> Iterator[tuple[int, PrefilteredScores]]:
        W_enc, b_enc = self.W_enc.detach(), self.b_enc.detach()

        def of_features(features: Tensor) -> PrefilteredScores:
            own_room = MatrixRoom(features.numel(), columns)
            upper = UpperBounds(self.kernels, low.rows[features], columns, own_room, asked_once=False)
            return PrefilteredScores(self.kernels, upper, W_enc[features], b_enc[features], centred, doubt)

        bounds = chunk_bounds(len(self.features), centred.shape[0], self._selection_mb, prefilter=True)
        room = MatrixRoom(max(last - first for first, last in bounds), columns)
        for first, last in bounds:
            upper = UpperBounds(self.kernels, low.rows[first:last], columns, room, asked_once=self._asked_once)
            rows = slice(first, last)
            scores = PrefilteredScores(self.kernels, upper, W_enc[rows], b_enc[rows], centred, doubt, of_features)
            yield first, scores
            self.rescored += scores.rescored
            self._asked_once = upper.was_asked_once

    @torch.no_grad()
    def normalise_decoder(self, first: int = 0, last: int | None = None) -> None:
        """Brings the decoder rows from `first` to `last`, exclusive, by default all of them, back to unit norm."""
        rows = self.W_dec[first:last]
        rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True))


def project_out(gradient: Tensor, rows: Tensor) -> None:
    """Removes from a gradient, in place, the part parallel to each unit row, which would only change the row's norm."""
    gradient.addcmul_(torch.linalg.vecdot(gradient, rows)[:, None], rows, value=-1)


def score_chunks(
    W_enc: Tensor,
    b_enc: Tensor,
    centred: Tensor,
    selection_mb: float | None = None,
    left_out: Tensor | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Yields `(first feature, W_enc[chunk] @ centred.T + b_enc[chunk])`; each chunk overwrites the one before it.

    The number of features in a chunk is a multiple of eight; fewer than eight at the end are part of the last chunk.

    Args:
        W_enc: encoder rows, `[features, d_in]`; of another dtype than `centred`, they are brought to it chunk by chunk.
        b_enc: encoder biases, `[features]`.
        centred: activations minus `b_dec`, fp32 `[tokens, d_in]`.
        selection_mb: memory in MiB for a chunk and the work of selecting from it; a chunk of eight features may take
            more. By default that of the device.
        left_out: indices of tokens whose scores are all 0, int64; None for none.
    """
    tokens = centred.shape[0]
    if selection_mb is None:
        selection_mb = selection_mb_on(centred.device.type, tokens)
    bounds = chunk_bounds(W_enc.shape[0], tokens, selection_mb, prefilter=False)
    buffer = centred.new_empty(max(last - first for first, last in bounds), tokens)
    transposed = centred.t()
    for first, last in bounds:
        chunk = buffer[: last - first]
        rows, biases = W_enc[first:last].to(centred.dtype), b_enc[first:last, None].to(centred.dtype)
        torch.addmm(biases, rows, transposed, out=chunk)
        if left_out is not None:
            chunk[:, left_out] = 0
        yield first, chunk


def initial_rows(d_in: int, features: range, seed: int, device: torch.device | str = "cpu") -> Tensor:
    """Returns random rows of unit norm, fp32 `[len(features), d_in]`, which follow from seed and feature indices.

    They are made on the CPU, a block at a time, so no device has other rows and none are in memory twice.

    Args:
        d_in: width of the activations.
        features: global indices of the features.
        seed: seed of the rows.
        device: device of the rows.
    """
    rows = torch.empty(len(features), d_in, device=device)
    for block in range(features.start // _SEED_BLOCK, (features.stop - 1) // _SEED_BLOCK + 1):
        made = torch.randn(_SEED_BLOCK, d_in, generator=torch_generator(seed, "rows", block))
        made /= torch.linalg.vector_norm(made, dim=1, keepdim=True)
        first = block * _SEED_BLOCK
        wanted = range(max(first, features.start), min(first + _SEED_BLOCK, features.stop))
        rows[wanted.start - features.start : wanted.stop - features.start] = made[
            wanted.start - first : wanted.stop - first
        ].to(device)
    return rows
