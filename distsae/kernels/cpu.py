"""The operations in torch's own fast CPU code.

`embedding_bag` sums weighted rows, and `sampled_addmm` takes dot products at given positions. Both are one to two
orders of magnitude faster than gathers with `index_add`.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from distsae.allocation import Matches
from distsae.kernels.operations import AdamStep, Kernels
from distsae.kernels.reference import REFERENCE

__all__ = ["CPU", "row_starts"]

# PyTorch warns once per process that its CSR tensors are in beta. The operation that uses them here is tested against
# dense products.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")


def row_starts(sorted_index: Tensor, rows: int) -> Tensor:
    """Returns the CSR row pointer of a sorted index, int64 `[rows + 1]`."""
    if sorted_index.is_cuda:  # counting would wait for the device; searching is as fast and does not
        return torch.searchsorted(sorted_index, torch.arange(rows + 1, device=sorted_index.device))
    starts = torch.zeros(rows + 1, dtype=torch.long, device=sorted_index.device)
    torch.cumsum(torch.bincount(sorted_index, minlength=rows), 0, out=starts[1:])
    return starts


def _upper_scores(rows: Tensor, columns: Tensor, out: Tensor) -> None:
    torch.mm(rows, columns.t(), out=out)


def _above(scores: Tensor, bound: Tensor) -> Tensor:
    # The bits of non-negative numbers, read as integers, are ordered as the numbers are, and the bits of negative ones
    # are below all of them. NumPy compares integers and lists the true ones several times as fast as torch on one core.
    mask = np.greater(scores.view(torch.int16).numpy(), bound.view(torch.int16).numpy())
    return torch.from_numpy(np.flatnonzero(mask))


def _decode(by_token: Matches, W_dec: Tensor, tokens: int) -> Tensor:
    if not len(by_token):
        return W_dec.new_zeros(tokens, W_dec.shape[1])
    starts = row_starts(by_token.token, tokens)[:-1]
    return embedding_bag(by_token.feature, W_dec, starts, per_sample_weights=by_token.score, mode="sum")


def _match_dots(feature: Tensor, token: Tensor, rows: Tensor, vectors: Tensor) -> Tensor:
    if not feature.numel():
        return rows.new_zeros(0)
    if not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return REFERENCE.match_dots(feature, token, rows, vectors)
    pattern = torch.sparse_csr_tensor(
        row_starts(feature, rows.shape[0]),
        token,
        rows.new_zeros(feature.numel()),
        (rows.shape[0], vectors.shape[0]),
        check_invariants=False,
    )
    dots: Tensor = torch.sparse.sampled_addmm(pattern, rows, vectors.t(), beta=0.0).values()
    return dots


def _row_sums(starts: Tensor, index: Tensor, weight: Tensor, vectors: Tensor) -> Tensor:
    begin, end = int(starts[0]), int(starts[-1])
    if begin == end:
        return vectors.new_zeros(starts.numel() - 1, vectors.shape[1])
    own = slice(begin, end)
    return embedding_bag(index[own], vectors, starts[:-1] - begin, per_sample_weights=weight[own], mode="sum")


def _adam(
    parameters: list[Tensor],
    gradients: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    numbers: AdamStep,
) -> None:
    steps = [torch.full((), float(numbers.step), device=parameters[0].device)] * len(parameters)
    torch._fused_adam_(
        parameters,
        gradients,
        exp_avgs,
        exp_avg_sqs,
        [],
        steps,
        lr=numbers.lr,
        beta1=numbers.beta1,
        beta2=numbers.beta2,
        weight_decay=0.0,
        eps=numbers.eps,
        amsgrad=False,
        maximize=False,
    )


CPU = Kernels("cpu", _upper_scores, _above, _decode, _match_dots, _row_sums, _adam)
"""Every operation for a CPU."""
