"""One rank's features: their encoder and decoder rows, and the replicated `b_dec`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from distsae.seeds import torch_generator

__all__ = ["SELECTION_MB", "FeatureShard", "initial_rows", "least_selection_mb", "score_chunks"]

SELECTION_MB = 128
"""MiB that one chunk of scores and the work of selecting from it may take, unless a run says otherwise."""

_BYTES_PER_SCORE = 48
"""What a score costs at worst: 4 bytes itself, 1 in the mask, and without a lower bound half of all scores are picked
and pass through their indices. Measured with `python -m tests.benchmarks.selection_memory`."""

_FEWEST = 8
"""Features in a chunk. Products of fewer take another path on CPU and differ in the last bit; from eight on every split
gave the bits of the whole product in all shapes tried."""

_SEED_BLOCK = 256


class FeatureShard(nn.Module):
    """The parameters of features `features` of an SAE of `d_sae` features.

    Both matrices are feature-major, `[d_sae_local, d_in]`: one feature is one contiguous row.

    Args:
        d_in: width of the activations.
        features: global indices of this rank's features.
        b_dec: initial decoder bias, fp32 `[d_in]`, usually the mean activation; the same on every rank.
        seed: seed of the initial rows. They depend on the global feature index alone, never on the mesh.
        selection_mb: MiB that one chunk of scores and the work of selecting from it may take.
    """

    def __init__(
        self, d_in: int, features: range, b_dec: Tensor, seed: int, selection_mb: float = SELECTION_MB
    ) -> None:
        super().__init__()
        rows = initial_rows(d_in, features, seed)
        self.features, self._selection_mb = features, selection_mb
        self.W_enc = nn.Parameter(rows.clone())
        self.W_dec = nn.Parameter(rows)
        self.b_enc = nn.Parameter(torch.zeros(len(features)))
        self.b_dec = nn.Parameter(b_dec.detach().clone())

    def encode_chunks(self, centred: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yields `(first local feature, pre_acts)` with `pre_acts` fp32 `[features, tokens]`, chunk by chunk.

        A chunk is overwritten by the next one.

        Args:
            centred: `x - b_dec`, `[tokens, d_in]`.
        """
        return score_chunks(self.W_enc.detach(), self.b_enc.detach(), centred, self._selection_mb)

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Brings every decoder row back to unit norm."""
        self.W_dec.div_(torch.linalg.vector_norm(self.W_dec, dim=1, keepdim=True))

    @torch.no_grad()
    def project_decoder_gradient(self) -> None:
        """Takes out of the decoder gradient what is parallel to each row: the norm is fixed, so it only misleads."""
        assert self.W_dec.grad is not None
        along = torch.linalg.vecdot(self.W_dec.grad, self.W_dec)[:, None]
        self.W_dec.grad.addcmul_(along, self.W_dec, value=-1)


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
    features, tokens = W_enc.shape[0], centred.shape[0]
    affordable = int(selection_mb * (1 << 20)) // (_BYTES_PER_SCORE * max(tokens, 1))
    size = max(affordable // _FEWEST * _FEWEST, _FEWEST)
    buffer = centred.new_empty(min(size + _FEWEST - 1, features), tokens)
    transposed = centred.t()
    last = 0
    while last < features:
        first, last = last, last + size
        if features - last < _FEWEST:
            last = features
        chunk = buffer[: last - first]
        torch.addmm(b_enc[first:last, None], W_enc[first:last], transposed, out=chunk)
        yield first, chunk


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
