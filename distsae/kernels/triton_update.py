"""The update of a GPU: one program brings one feature from its matches to its new weights.

Sums of row gradients, projection, Adam, unit norm and the prefilter's copy each take a pass over all weights if they
are operations of their own. Here every number is read once and written once: for each weight and its moments 24 bytes
with moments in fp32, 16 in bf16, 12 in 8 bits. Rows of gradients exist only in registers, but for features with
hundreds of matches, whose segments are summed beforehand (`triton_segments.py`).

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
from distsae.kernels.triton_gradients import AHEAD, row_gradients, warps_for, with_segments
from distsae.kernels.triton_moments import adam, layout_of, operands_of, rounding_words, stepped
from distsae.kernels.triton_segments import SEGMENT

__all__ = ["update_rows"]

_FUSED = True
"""Multiply and add with one rounding. Triton's default differs between versions; the bits should not."""


@triton.jit  # type: ignore[untyped-decorator]
def _update_rows(
    starts: tl.tensor,
    token: tl.tensor,
    dots: tl.tensor,
    score: tl.tensor,
    g: tl.tensor,
    partial: tl.tensor,
    more_starts: tl.tensor,
    more_token: tl.tensor,
    more_dots: tl.tensor,
    more_score: tl.tensor,
    more_g: tl.tensor,
    more_partial: tl.tensor,
    centred: tl.tensor,
    b_gradient: tl.tensor,
    W_enc: tl.tensor,
    W_enc_mean: tl.tensor,
    W_enc_square: tl.tensor,
    W_enc_mean_scale: tl.tensor,
    W_enc_square_scale: tl.tensor,
    W_enc_row_words: tl.tensor,
    W_enc_column_words: tl.tensor,
    W_dec: tl.tensor,
    W_dec_mean: tl.tensor,
    W_dec_square: tl.tensor,
    W_dec_mean_scale: tl.tensor,
    W_dec_square_scale: tl.tensor,
    W_dec_row_words: tl.tensor,
    W_dec_column_words: tl.tensor,
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
    length: int,
    TERMS: tl.constexpr,
    UPDATES: tl.constexpr,
    LOW: tl.constexpr,
    MARGIN: tl.constexpr,
    TINY: tl.constexpr,
    SEGMENT: tl.constexpr,
    LENGTH: tl.constexpr,
    BLOCK: tl.constexpr,
    AHEAD: tl.constexpr,
    PADDED: tl.constexpr,
) -> None:
    """Measures the gradients of one feature and, if asked to, updates everything that the feature has."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    if PADDED:  # each block of moments begins at an entry of its own
        of_block = column % LENGTH
        column = column // LENGTH * length + of_block
        inside = (of_block < length) & (column < width)
    encoder, decoder = row_gradients(
        row, column, inside, starts, token, dots, score, g, partial, centred, width, SEGMENT, BLOCK, AHEAD, PADDED
    )
    if TERMS == 2:
        more_encoder, more_decoder = row_gradients(
            row,
            column,
            inside,
            more_starts,
            more_token,
            more_dots,
            more_score,
            more_g,
            more_partial,
            centred,
            width,
            SEGMENT,
            BLOCK,
            AHEAD,
            PADDED,
        )
        encoder += more_encoder
        decoder += more_decoder
    place = row * width + column
    weights = tl.load(W_dec + place, mask=inside, other=0)
    decoder -= tl.sum(decoder * weights) * weights  # would only change the row's norm
    tl.store(energy + row, tl.sum(encoder * encoder) + tl.sum(decoder * decoder))
    if UPDATES:
        blocks = width // length
        weights = adam(
            weights,
            decoder * scale,
            W_dec_mean,
            W_dec_square,
            W_dec_mean_scale + row * blocks,
            W_dec_square_scale + row * blocks,
            rounding_words(W_dec_row_words, W_dec_column_words, row, column, inside),
            place,
            inside,
            blocks,
            decoder_rate,
            beta1,
            rest1,
            beta2,
            rest2,
            root,
            eps,
            LENGTH,
        )
        tl.store(W_dec + place, weights / tl.sqrt(tl.sum(weights * weights)), mask=inside)

        weights = adam(
            tl.load(W_enc + place, mask=inside, other=0),
            encoder * scale,
            W_enc_mean,
            W_enc_square,
            W_enc_mean_scale + row * blocks,
            W_enc_square_scale + row * blocks,
            rounding_words(W_enc_row_words, W_enc_column_words, row, column, inside),
            place,
            inside,
            blocks,
            rate,
            beta1,
            rest1,
            beta2,
            rest2,
            root,
            eps,
            LENGTH,
        )
        tl.store(W_enc + place, weights, mask=inside)

        gradient = tl.load(b_gradient + row) * scale
        mean = tl.load(b_enc_mean + row) * beta1 + gradient * rest1
        square = tl.load(b_enc_square + row) * beta2 + gradient * gradient * rest2
        tl.store(b_enc_mean + row, mean)
        tl.store(b_enc_square + row, square)
        bias = stepped(tl.load(b_enc + row), mean, square, rate, root, eps)
        tl.store(b_enc + row, bias)

        if LOW:
            rounded = weights.to(tl.bfloat16)
            low_row = low + row * low_width
            tl.store(low_row + column, rounded, mask=inside)
            off = rounded.to(tl.float32) - weights
            norm = tl.sqrt(tl.sum(weights * weights)) + flushed
            rounding_norm = tl.sqrt(tl.sum(off * off)) + flushed
            coarse = bias.to(tl.bfloat16)
            rest = bias - coarse.to(tl.float32) + error_of_bias * tl.abs(bias) + TINY
            tl.store(low_row + width, coarse)
            tl.store(low_row + width + 1, rest.to(tl.bfloat16))
            tl.store(low_row + width + 2, (norm * MARGIN).to(tl.bfloat16))
            tl.store(low_row + width + 3, ((rounding_norm + 2.5 * error * norm) * MARGIN).to(tl.bfloat16))


def update_rows(
    terms: list[RowTerm],
    centred: Tensor,
    b_gradient: Tensor,
    rows: UpdatedRows,
    numbers: AdamStep | None,
    scale: float,
) -> Tensor:
    """Updates all rows of a shard; see `distsae.kernels.operations.UpdateRows`."""
    W_enc, W_enc_moments = rows.W_enc
    W_dec, W_dec_moments = rows.W_dec
    b_enc, b_enc_moments = rows.b_enc
    features, width = W_enc.shape
    centred = centred.contiguous()
    energy = centred.new_empty(features)
    step = AdamStep(1, 0.0, 0.0, 0.0, 0.0) if numbers is None else numbers
    error = summation_error(width, centred.device)
    length, entries, block = layout_of(W_enc_moments)
    with torch.cuda.device_of(centred):  # type: ignore[no-untyped-call]
        operands = [with_segments(term, centred, features) for term in terms]
        _update_rows[(features,)](
            *operands[0],
            *operands[-1],
            centred,
            b_gradient.contiguous(),
            W_enc,
            *operands_of(W_enc_moments),
            W_dec,
            *operands_of(W_dec_moments),
            b_enc,
            b_enc_moments.mean,
            b_enc_moments.square,
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
            length,
            len(terms),
            numbers is not None,
            rows.low is not None,
            MARGIN,
            TINY,
            SEGMENT,
            entries,
            block,
            AHEAD,
            length != width and entries != length,
            num_warps=warps_for(block),
            enable_fp_fusion=_FUSED,
        )
    return energy
