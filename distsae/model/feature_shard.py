"""One rank's features: their encoder and decoder rows, and the replicated `b_dec`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from distsae.allocation import ExactScores, Scores
from distsae.kernels import CPU, Kernels, PrefilteredScores, PrefilterRows, prefilter_tokens
from distsae.seeds import torch_generator

__all__ = [
    "SELECTION_MB",
    "FeatureShard",
    "chunk_size",
    "initial_rows",
    "least_selection_mb",
    "project_out",
    "score_chunks",
]

SELECTION_MB = 128
"""MiB that one chunk of scores and the work of selecting from it may take, unless a run says otherwise."""

_BYTES_PER_SCORE, _BYTES_PER_BOUND = 48, 24
"""What a score costs at worst, computed in fp32 or only bounded in bf16: 4 or 2 bytes itself, 1 in the mask, and
without a lower bound all positive scores are picked and pass through their indices. Measured with
`python -m tests.benchmarks.selection_memory`: 32 and 15 bytes if half of the scores are positive, 43 and 20 if two
thirds are; with a lower bound 5 to 7 and 3 to 4. Once it is more, 40 bytes a bf16 score: in the first step of Feature
Choice if there are too few tokens, under 1024 on a rank, to guess bounds from a sample."""

_FEWEST = 8
"""Features in a chunk. Products of fewer take another path on CPU and differ in the last bit; from eight on every split
gave the bits of the whole product in all shapes tried."""

_REFRESH_ROWS = 1 << 10
_SEED_BLOCK = 256


class FeatureShard(nn.Module):
    """The parameters of the features `features` of an SAE of `d_sae` features.

    Both matrices are feature-major, `[d_sae_local, d_in]`: one feature is one contiguous row.

    Args:
        d_in: width of the activations.
        d_sae: number of features over all ranks.
        features: global indices of this rank's features.
        b_dec: initial decoder bias, fp32 `[d_in]`, usually the mean activation; the same on every rank.
        seed: seed of the initial rows. They depend on the global feature index alone, never on the mesh.
        selection_mb: MiB that one chunk of scores and the work of selecting from it may take.
        kernels: the operations of a step; by default the fast ones of a CPU.
        prefilter: find candidates by a bf16 product and score them in fp32, rather than everything in fp32.

    Attributes:
        rescored: scores that the prefilter could not rule out so far, and that were computed in fp32.
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
    ) -> None:
        super().__init__()
        rows = initial_rows(d_in, features, seed)
        self.d_sae = d_sae
        self.features = features
        self.kernels = kernels
        self._selection_mb = selection_mb
        self._prefilter, self.rescored = prefilter, 0
        self._low: PrefilterRows | None = None
        self._low_is_of = (-1, -1)
        self.W_enc = nn.Parameter(rows.clone())
        self.W_dec = nn.Parameter(rows)
        self.b_enc = nn.Parameter(torch.zeros(len(features)))
        self.b_dec = nn.Parameter(b_dec.detach().clone())

    def encode_chunks(self, centred: Tensor) -> Iterator[tuple[int, Scores]]:
        """Yields `(first local feature, scores)` block by block.

        A block is overwritten by the next one.

        Args:
            centred: `x - b_dec`, `[tokens, d_in]`.
        """
        if self._prefilter:
            columns, low = prefilter_tokens(centred), self._low_precision()
            if low.certifies(columns):
                return self._bounded_chunks(low, columns, centred)
        chunks = score_chunks(self.W_enc.detach(), self.b_enc.detach(), centred, self._selection_mb)
        return ((first, ExactScores(pre_acts)) for first, pre_acts in chunks)

    @torch.no_grad()
    def refresh(self, first: int, last: int) -> None:
        """Takes over the encoder rows `first` to `last`, which an update has just changed, into the prefilter's copy.

        Whoever changes rows where autograd does not see it must call this; other changes are noticed.
        """
        if self._low is not None:
            self._low.refresh(first, self.W_enc[first:last], self.b_enc[first:last])
            self._low_is_of = self._versions()

    def _low_precision(self) -> PrefilterRows:
        if self._low is None or self._low.rows.device != self.W_enc.device:
            self._low = PrefilterRows(self.W_enc.shape[0], self.W_enc.shape[1], self.W_enc.device)
            self._low_is_of = (-1, -1)
        if self._low_is_of != self._versions():
            for first in range(0, len(self.features), _REFRESH_ROWS):
                self.refresh(first, min(first + _REFRESH_ROWS, len(self.features)))
        return self._low

    def _versions(self) -> tuple[int, int]:
        return self.W_enc._version, self.b_enc._version

    def _bounded_chunks(
        self, low: PrefilterRows, columns: Tensor, centred: Tensor
    ) -> Iterator[tuple[int, PrefilteredScores]]:
        W_enc, b_enc = self.W_enc.detach(), self.b_enc.detach()
        bounds = _chunks(len(self.features), centred.shape[0], self._selection_mb, _BYTES_PER_BOUND)
        buffer = columns.new_empty(max(last - first for first, last in bounds), centred.shape[0])
        for first, last in bounds:
            upper = buffer[: last - first]
            self.kernels.upper_scores(low.rows[first:last], columns, upper)
            scores = PrefilteredScores(self.kernels, upper, W_enc[first:last], b_enc[first:last], centred)
            yield first, scores
            self.rescored += scores.rescored

    @torch.no_grad()
    def normalise_decoder(self, first: int = 0, last: int | None = None) -> None:
        """Brings the decoder rows `first` to `last`, by default all, back to unit norm."""
        rows = self.W_dec[first:last]
        rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True))


def project_out(gradient: Tensor, rows: Tensor) -> None:
    """Takes out of a gradient, in place, what is parallel to each unit row: its norm is fixed, so it only misleads."""
    gradient.addcmul_(torch.linalg.vecdot(gradient, rows)[:, None], rows, value=-1)


def score_chunks(
    W_enc: Tensor, b_enc: Tensor, centred: Tensor, selection_mb: float = SELECTION_MB
) -> Iterator[tuple[int, Tensor]]:
    """Yields `(first feature, W_enc[chunk] @ centred.T + b_enc[chunk])`; a chunk is overwritten by the next one.

    A chunk has a multiple of eight features, and a last chunk of fewer joins the one before it.

    Args:
        W_enc: encoder rows, fp32 `[features, d_in]`.
        b_enc: `[features]`.
        centred: activations less `b_dec`, fp32 `[tokens, d_in]`.
        selection_mb: MiB that a chunk and the work of selecting from it may take; `least_selection_mb` at least is
            taken.
    """
    bounds = _chunks(W_enc.shape[0], centred.shape[0], selection_mb, _BYTES_PER_SCORE)
    buffer = centred.new_empty(max(last - first for first, last in bounds), centred.shape[0])
    transposed = centred.t()
    for first, last in bounds:
        chunk = buffer[: last - first]
        torch.addmm(b_enc[first:last, None], W_enc[first:last], transposed, out=chunk)
        yield first, chunk


def _chunks(features: int, tokens: int, selection_mb: float, score_bytes: int) -> list[tuple[int, int]]:
    """Returns the first feature of each chunk and of the next."""
    size = _chunk_size(tokens, selection_mb, score_bytes)
    firsts = list(range(0, max(features - _FEWEST, 0) + 1, size))
    return list(pairwise([*firsts, features]))


def _chunk_size(tokens: int, selection_mb: float, score_bytes: int) -> int:
    affordable = int(selection_mb * (1 << 20)) // (score_bytes * max(tokens, 1))
    return max(affordable // _FEWEST * _FEWEST, _FEWEST)


def chunk_size(features: int, tokens: int, selection_mb: float, prefilter: bool) -> int:
    """Returns how many of a shard's `features` features a chunk of scores of `tokens` tokens has, at most."""
    size = _chunk_size(tokens, selection_mb, _BYTES_PER_BOUND if prefilter else _BYTES_PER_SCORE)
    return min(size + _FEWEST - 1, features)


def least_selection_mb(tokens: int) -> int:
    """Returns the fewest whole MiB in which a chunk of `tokens` tokens can be selected from."""
    return -(-_FEWEST * _BYTES_PER_SCORE * tokens // (1 << 20))


def initial_rows(d_in: int, features: range, seed: int) -> Tensor:
    """Returns random rows of unit norm, fp32 `[len(features), d_in]`, that depend on global feature indices alone."""
    first_block, last_block = features.start // _SEED_BLOCK, (features.stop - 1) // _SEED_BLOCK
    blocks = [
        torch.randn(_SEED_BLOCK, d_in, generator=torch_generator(seed, "rows", block))
        for block in range(first_block, last_block + 1)
    ]
    start = features.start - first_block * _SEED_BLOCK
    rows = torch.cat(blocks)[start : start + len(features)]
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / norms
