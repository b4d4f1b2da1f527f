"""Decode and gradients on matches only: each costs `matches * d_in`, never `tokens * d_sae * d_in`.

`embedding_bag` sums weighted rows and `sampled_addmm` takes dot products at given positions; on CPU both are one to
two orders of magnitude faster than the same written with gathers and `index_add`.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from distsae.allocation import Matches

__all__ = ["decode", "match_dots", "row_sums"]

# PyTorch says once a process that its CSR tensors are in beta; the two operations used here are tested against
# dense products.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")

_GATHER_BYTES = 1 << 26


def decode(by_token: Matches, W_dec: Tensor, tokens: int) -> Tensor:
    """Returns `sum over a token's matches of score * W_dec[feature]`, `[tokens, d_in]`, without `b_dec`.

    Args:
        by_token: matches sorted by token.
        W_dec: decoder rows of the features that `by_token.feature` counts from 0, `[features, d_in]`.
        tokens: number of tokens.
    """
    if not len(by_token):
        return W_dec.new_zeros(tokens, W_dec.shape[1])
    starts = _starts(by_token.token, tokens)[:-1]
    return embedding_bag(by_token.feature, W_dec, starts, per_sample_weights=by_token.score, mode="sum")


def match_dots(by_feature: Matches, rows: Tensor, vectors: Tensor) -> Tensor:
    """Returns `rows[feature] . vectors[token]` for each match, `[matches]`.

    Args:
        by_feature: matches sorted by feature, then token.
        rows: one row a feature, `[features, d_in]`.
        vectors: one row a token, `[tokens, d_in]`.
    """
    if not len(by_feature):
        return rows.new_zeros(0)
    if rows.is_cuda or torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        pattern = torch.sparse_csr_tensor(
            _starts(by_feature.feature, rows.shape[0]),
            by_feature.token,
            rows.new_zeros(len(by_feature)),
            (rows.shape[0], vectors.shape[0]),
            check_invariants=False,
        )
        dots: Tensor = torch.sparse.sampled_addmm(pattern, rows, vectors.t(), beta=0.0).values()
        return dots
    step = max(1, _GATHER_BYTES // (rows.shape[1] * rows.element_size()))
    parts = (slice(first, first + step) for first in range(0, len(by_feature), step))
    return torch.cat([(rows[by_feature.feature[p]] * vectors[by_feature.token[p]]).sum(1) for p in parts])


def row_sums(by_feature: Matches, weight: Tensor, vectors: Tensor, features: int) -> Tensor:
    """Returns `sum over a feature's matches of weight * vectors[token]`, `[features, d_in]`: a row gradient.

    Args:
        by_feature: matches sorted by feature.
        weight: one number a match, `[matches]`.
        vectors: one row a token, `[tokens, d_in]`.
        features: number of rows of the result.
    """
    if not len(by_feature):
        return vectors.new_zeros(features, vectors.shape[1])
    starts = _starts(by_feature.feature, features)[:-1]
    return embedding_bag(by_feature.token, vectors, starts, per_sample_weights=weight, mode="sum")


def _starts(sorted_index: Tensor, rows: int) -> Tensor:
    """Returns the CSR row pointer of a sorted index, int64 `[rows + 1]`."""
    starts = torch.zeros(rows + 1, dtype=torch.long, device=sorted_index.device)
    torch.cumsum(torch.bincount(sorted_index, minlength=rows), 0, out=starts[1:])
    return starts
