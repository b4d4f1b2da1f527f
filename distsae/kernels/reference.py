"""The plain version of every operation: slow, for any device, and the standard that the fast versions are tested by."""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation import Matches
from distsae.kernels.operations import AdamStep, Kernels

__all__ = ["REFERENCE"]

_GATHER_BYTES = 1 << 26
"""Memory that gathered vectors may take at a time, unless a caller gives another limit."""


def _upper_scores(rows: Tensor, columns: Tensor, out: Tensor) -> None:
    out.copy_(rows.float() @ columns.float().t())


def _above(scores: Tensor, bound: Tensor) -> Tensor:
    return (~(scores <= bound)).view(-1).nonzero().squeeze(1)


def _decode(by_token: Matches, W_dec: Tensor, tokens: int, *, gather_bytes: int = _GATHER_BYTES) -> Tensor:
    x_hat = W_dec.new_zeros(tokens, W_dec.shape[1])
    for part in _parts(by_token.token, W_dec, gather_bytes):
        x_hat.index_add_(0, by_token.token[part], by_token.score[part, None] * W_dec[by_token.feature[part]])
    return x_hat


def _match_dots(
    feature: Tensor, token: Tensor, rows: Tensor, vectors: Tensor, *, gather_bytes: int = _GATHER_BYTES
) -> Tensor:
    dots = rows.new_zeros(feature.numel())
    for part in _parts(feature, rows, gather_bytes):
        dots[part] = (rows[feature[part]] * vectors[token[part]]).sum(1)
    return dots


def _row_sums(
    starts: Tensor, index: Tensor, weight: Tensor, vectors: Tensor, *, gather_bytes: int = _GATHER_BYTES
) -> Tensor:
    own = slice(int(starts[0]), int(starts[-1]))
    index, weight = index[own], weight[own]
    row = torch.arange(starts.numel() - 1, device=starts.device).repeat_interleave(starts.diff())
    sums = vectors.new_zeros(starts.numel() - 1, vectors.shape[1])
    for part in _parts(index, vectors, gather_bytes):
        sums.index_add_(0, row[part], weight[part, None] * vectors[index[part]])
    return sums


def _adam(
    parameters: list[Tensor],
    gradients: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    numbers: AdamStep,
) -> None:
    correction1 = 1 - numbers.beta1**numbers.step
    correction2 = 1 - numbers.beta2**numbers.step
    for parameter, gradient, mean, square in zip(parameters, gradients, exp_avgs, exp_avg_sqs, strict=True):
        mean.mul_(numbers.beta1).add_(gradient, alpha=1 - numbers.beta1)
        square.mul_(numbers.beta2).addcmul_(gradient, gradient, value=1 - numbers.beta2)
        root = (square / correction2).sqrt_().add_(numbers.eps)
        parameter.addcdiv_(mean, root, value=-numbers.lr / correction1)


def _parts(index: Tensor, vectors: Tensor, gather_bytes: int) -> list[slice]:
    """Returns slices of `index`, each of which gathers at most `gather_bytes` of vectors, or one vector."""
    size = max(1, gather_bytes // (vectors.shape[1] * vectors.element_size()))
    return [slice(first, first + size) for first in range(0, index.numel(), size)]


REFERENCE = Kernels("reference", _upper_scores, _above, _decode, _match_dots, _row_sums, _adam)
"""The plain version of every operation."""
