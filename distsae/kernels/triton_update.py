"""The update of a GPU: one program brings one feature from its matches to its new weights.

Sums of row gradients, projection, Adam, unit norm and the prefilter's copy each take a pass over all weights if they
are operations of their own. Here every number is read once and written once: weights and moments, 24 bytes a weight in
fp32. Rows of gradients exist only in registers.

Import this module only where Triton is installed. With `TRITON_INTERPRET=1` it computes on a CPU, slowly.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from distsae.kernels.operations import AdamStep, RowTerm, UpdatedRows
from distsae.kernels.prefilter_margins import FLUSHED, MARGIN, TINY, bias_error, summation_error

__all__ = ["update_rows"]

_AHEAD = 4
"""Number of matches whose rows are requested before the first of them has arrived."""

_COLUMNS_A_WARP = 256

_FUSED = True
"""Multiply and add with one rounding. Triton's default differs between versions; the bits should not."""


@triton.jit  # type: ignore[untyped-decorator]
def _row_gradients(
    row: tl.tensor,
    column: tl.tensor,
    starts: tl.tensor,
    token: tl.tensor,
    dots: tl.tensor,
    score: tl.tensor,
    g: tl.tensor,
    centred: tl.tensor,
    width: int,
    BLOCK: tl.constexpr,
    AHEAD: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Sums the gradients of an encoder and a decoder row over the row's matches, strictly in their order."""
    encoder = tl.zeros((BLOCK,), tl.float32)
    decoder = tl.zeros((BLOCK,), tl.float32)
    last = tl.load(starts + row + 1)
    for first in range(tl.load(starts + row), last, AHEAD):
        for ahead in tl.static_range(AHEAD):
            match = first + ahead
            inside = match < last
            vector = tl.load(token + match, mask=inside, other=0) * width + column
            columns = tl.where(inside, width, 0)  # so that one comparison masks both
            from_input = tl.load(centred + vector, mask=column < columns, other=0)
            from_error = tl.load(g + vector, mask=column < columns, other=0)
            encoder += tl.load(dots + match, mask=inside, other=0) * from_input
            decoder += tl.load(score + match, mask=inside, other=0) * from_error
    return encoder, decoder


@triton.jit  # type: ignore[untyped-decorator]
def _adam(
    numbers: tl.tensor,
    gradient: tl.tensor,
    means: tl.tensor,
    squares: tl.tensor,
    inside: tl.tensor,
    rate: float,
    beta1: float,
    rest1: float,
    beta2: float,
    rest2: float,
    root: float,
    eps: float,
) -> tl.tensor:
    """Updates the moments at some addresses, and returns the updated numbers, 0 outside."""
    mean = tl.load(means, mask=inside, other=0) * beta1 + gradient * rest1
    square = tl.load(squares, mask=inside, other=0) * beta2 + gradient * gradient * rest2
    tl.store(means, mean, mask=inside)
    tl.store(squares, square, mask=inside)
    return tl.where(inside, numbers - rate * mean / (tl.sqrt(square) * root + eps), 0.0)


@triton.jit  # type: ignore[untyped-decorator]
def _update_rows(
    starts: tl.tensor,
    token: tl.tensor,
    dots: tl.tensor,
    score: tl.tensor,
    g: tl.tensor,
    more_starts: tl.tensor,
    more_token: tl.tensor,
    more_dots: tl.tensor,
    more_score: tl.tensor,
    more_g: tl.tensor,
    centred: tl.tensor,
    b_gradient: tl.tensor,
    W_enc: tl.tensor,
    W_enc_mean: tl.tensor,
    W_enc_square: tl.tensor,
    W_dec: tl.tensor,
    W_dec_mean: tl.tensor,
    W_dec_square: tl.tensor,
    b_enc: tl.tensor,
    b_enc_mean: tl.tensor,
    b_enc_square: tl.tensor,
    low: tl.tensor,
    energy: tl.tensor,
    scale: float,
    rate: float,
    decoder_rate: float,
    beta1: float,
    rest1: float,
    beta2: float,
    rest2: float,
    root: float,
    eps: float,
    error: float,
    error_of_bias: float,
    flushed: float,
    width: int,
    low_width: int,
    TERMS: tl.constexpr,
    UPDATES: tl.constexpr,
    LOW: tl.constexpr,
    MARGIN: tl.constexpr,
    TINY: tl.constexpr,
    BLOCK: tl.constexpr,
    AHEAD: tl.constexpr,
) -> None:
    """Measures the gradients of one feature and, if asked to, updates everything that the feature has."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    encoder, decoder = _row_gradients(row, column, starts, token, dots, score, g, centred, width, BLOCK, AHEAD)
    if TERMS == 2:
        more_encoder, more_decoder = _row_gradients(
            row, column, more_starts, more_token, more_dots, more_score, more_g, centred, width, BLOCK, AHEAD
        )
        encoder += more_encoder
        decoder += more_decoder
    place = row * width + column
    weights = tl.load(W_dec + place, mask=inside, other=0)
    decoder -= tl.sum(decoder * weights) * weights  # would only change the row's norm
    tl.store(energy + row, tl.sum(encoder * encoder) + tl.sum(decoder * decoder))
    if UPDATES:
        means, squares = W_dec_mean + place, W_dec_square + place
        weights = _adam(
            weights, decoder * scale, means, squares, inside, decoder_rate, beta1, rest1, beta2, rest2, root, eps
        )
        tl.store(W_dec + place, weights / tl.sqrt(tl.sum(weights * weights)), mask=inside)

        weights = tl.load(W_enc + place, mask=inside, other=0)
        means, squares = W_enc_mean + place, W_enc_square + place
        weights = _adam(weights, encoder * scale, means, squares, inside, rate, beta1, rest1, beta2, rest2, root, eps)
        tl.store(W_enc + place, weights, mask=inside)

        bias = tl.load(b_enc + row)
        gradient = tl.load(b_gradient + row) * scale
        means, squares = b_enc_mean + row, b_enc_square + row
        bias = _adam(bias, gradient, means, squares, row >= 0, rate, beta1, rest1, beta2, rest2, root, eps)
        tl.store(b_enc + row, bias)

        if LOW:
            rounded = weights.to(tl.bfloat16)
            place = row * low_width + column
            tl.store(low + place, rounded, mask=inside)
            off = rounded.to(tl.float32) - weights
            norm = tl.sqrt(tl.sum(weights * weights)) + flushed
            rounding_norm = tl.sqrt(tl.sum(off * off)) + flushed
            coarse = bias.to(tl.bfloat16)
            rest = bias - coarse.to(tl.float32) + error_of_bias * tl.abs(bias) + TINY
            margins = low + row * low_width + width
            tl.store(margins, coarse)
            tl.store(margins + 1, rest.to(tl.bfloat16))
            tl.store(margins + 2, (norm * MARGIN).to(tl.bfloat16))
            tl.store(margins + 3, ((rounding_norm + 2.5 * error * norm) * MARGIN).to(tl.bfloat16))


def update_rows(
    terms: list[RowTerm],
    centred: Tensor,
    b_gradient: Tensor,
    rows: UpdatedRows,
    numbers: AdamStep | None,
    scale: float,
) -> Tensor:
    """Updates all rows of a shard; see `distsae.kernels.operations.UpdateRows`."""
    W_enc = rows.W_enc[0]
    features, width = W_enc.shape
    energy = centred.new_empty(features)
    step = AdamStep(1, 0.0, 0.0, 0.0, 0.0) if numbers is None else numbers
    error = summation_error(width, centred.device)
    operands = [tensor.contiguous() for term in (terms[0], terms[-1]) for tensor in term]
    block = max(triton.next_power_of_2(width), 16)
    with torch.cuda.device_of(centred):  # type: ignore[no-untyped-call]
        _update_rows[(features,)](
            *operands,
            centred.contiguous(),
            b_gradient.contiguous(),
            *rows.W_enc,
            *rows.W_dec,
            *rows.b_enc,
            W_enc if rows.low is None else rows.low,
            energy,
            scale,
            step.lr / (1 - step.beta1**step.step),
            step.decoder_rate * step.lr / (1 - step.beta1**step.step),
            step.beta1,
            1 - step.beta1,
            step.beta2,
            1 - step.beta2,
            1 / math.sqrt(1 - step.beta2**step.step),
            step.eps,
            error,
            bias_error(error),
            FLUSHED * math.sqrt(width),
            width,
            0 if rows.low is None else rows.low.shape[1],
            len(terms),
            numbers is not None,
            rows.low is not None,
            MARGIN,
            TINY,
            block,
            _AHEAD,
            num_warps=min(max(block // _COLUMNS_A_WARP, 1), 16),
            enable_fp_fusion=_FUSED,
        )
    return energy
