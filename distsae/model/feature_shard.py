"""One rank's features: their encoder and decoder rows, and the replicated `b_dec`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from distsae.seeds import torch_generator

__all__ = ["CHUNK_BYTES", "FeatureShard", "initial_rows", "score_chunks"]

CHUNK_BYTES = 1 << 25
"""Memory that one chunk of pre-activations may take."""

_SEED_BLOCK = 256


class FeatureShard(nn.Module):
    """The parameters of features `features` of an SAE of `d_sae` features.

    Both matrices are feature-major, `[d_sae_local, d_in]`: one feature is one contiguous row.

    Args:
        d_in: width of the activations.
        features: global indices of this rank's features.
        b_dec: initial decoder bias, fp32 `[d_in]`, usually the mean activation; the same on every rank.
        seed: seed of the initial rows. They depend on the global feature index alone, never on the mesh.
    """

    def __init__(self, d_in: int, features: range, b_dec: Tensor, seed: int) -> None:
        super().__init__()
        rows = initial_rows(d_in, features, seed)
        self.features = features
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
        return score_chunks(self.W_enc.detach(), self.b_enc.detach(), centred)

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


def score_chunks(W_enc: Tensor, b_enc: Tensor, centred: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yields `(first feature, W_enc[chunk] @ centred.T + b_enc[chunk])`, at most `CHUNK_BYTES` at a time.

    Args:
        W_enc: encoder rows, fp32 `[features, d_in]`.
        b_enc: `[features]`.
        centred: activations less `b_dec`, fp32 `[tokens, d_in]`.
    """
    features, tokens = W_enc.shape[0], centred.shape[0]
    size = min(max(CHUNK_BYTES // (4 * max(tokens, 1)) // 8 * 8, 8), features)
    buffer = centred.new_empty(size, tokens)
    transposed = centred.t()
    for first in range(0, features, size):
        last = min(first + size, features)
        chunk = buffer[: last - first]
        torch.addmm(b_enc[first:last, None], W_enc[first:last], transposed, out=chunk)
        yield first, chunk


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
