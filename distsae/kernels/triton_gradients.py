"""The gradients of one feature's rows, summed from its matches in registers, as part of a GPU's update.

Import this module only where Triton is installed.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from distsae.kernels.operations import RowTerm
from distsae.kernels.triton_segments import SEGMENT, segment_in, slot_of, slots_for

__all__ = ["AHEAD", "row_gradients", "warps_for", "with_segments"]

AHEAD = 4
"""Number of matches whose rows are requested before the first of them has arrived."""

_COLUMNS_A_WARP = 256

_FUSED = True
"""Multiply and add with one rounding. Triton's default differs between versions; the bits should not."""


@triton.jit  # type: ignore[untyped-decorator]
def _gradients_between(
    start: tl.tensor,
    end: tl.tensor,
    column: tl.tensor,
    inside: tl.tensor,
    token: tl.tensor,
    dots: tl.tensor,
    score: tl.tensor,
    g: tl.tensor,
    centred: tl.tensor,
    width: int,
    BLOCK: tl.constexpr,
    AHEAD: tl.constexpr,
    PADDED: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Sums what some matches of a row add to the gradients of its encoder and decoder row, strictly in their order."""
    encoder = tl.zeros((BLOCK,), tl.float32)
    decoder = tl.zeros((BLOCK,), tl.float32)
    for first in range(start, end, AHEAD):
        for ahead in tl.static_range(AHEAD):
            match = first + ahead
            there = match < end
            vector = tl.load(token + match, mask=there, other=0) * width + column
            wanted = column < tl.where(there, width, 0)  # so that one comparison masks both
            if PADDED:
                wanted = wanted & inside
            from_input = tl.load(centred + vector, mask=wanted, other=0)
            from_error = tl.load(g + vector, mask=wanted, other=0)
            encoder += tl.load(dots + match, mask=there, other=0) * from_input
            decoder += tl.load(score + match, mask=there, other=0) * from_error
    return encoder, decoder


@triton.jit(do_not_specialize=["features"])  # type: ignore[untyped-decorator]
def _segment_gradients(
    starts: tl.tensor,
    token: tl.tensor,
    dots: tl.tensor,
    score: tl.tensor,
    g: tl.tensor,
    centred: tl.tensor,
    partial: tl.tensor,
    features: int,
    width: int,
    SEGMENT: tl.constexpr,
    BLOCK: tl.constexpr,
    AHEAD: tl.constexpr,
) -> None:
    """Sums the segment of a slot into `partial`, `[slots, 2, width]`: encoder, then decoder."""
    slot = tl.program_id(0).to(tl.int64)
    start, end = segment_in(slot, starts, features, SEGMENT)
    if start < end:
        column = tl.arange(0, BLOCK)
        inside = column < width
        encoder, decoder = _gradients_between(
            start, end, column, inside, token, dots, score, g, centred, width, BLOCK, AHEAD, False
        )
        tl.store(partial + 2 * slot * width + column, encoder, mask=inside)
        tl.store(partial + (2 * slot + 1) * width + column, decoder, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def row_gradients(
    row: tl.tensor,
    column: tl.tensor,
    inside: tl.tensor,
    starts: tl.tensor,
    token: tl.tensor,
    dots: tl.tensor,
    score: tl.tensor,
    g: tl.tensor,
    partial: tl.tensor,
    centred: tl.tensor,
    width: int,
    SEGMENT: tl.constexpr,
    BLOCK: tl.constexpr,
    AHEAD: tl.constexpr,
    PADDED: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Sums the gradients of an encoder and a decoder row over the row's matches, or over its segments."""
    first = tl.load(starts + row)
    last = tl.load(starts + row + 1)
    is_long = last - first > SEGMENT
    encoder, decoder = _gradients_between(
        first,
        tl.where(is_long, first, last),
        column,
        inside,
        token,
        dots,
        score,
        g,
        centred,
        width,
        BLOCK,
        AHEAD,
        PADDED,
    )
    if is_long:
        start = first
        while start < last:
            sums = partial + 2 * slot_of(first, start, SEGMENT) * width + column
            encoder += tl.load(sums, mask=inside, other=0)
            decoder += tl.load(sums + width, mask=inside, other=0)
            start += SEGMENT
    return encoder, decoder


def warps_for(block: int) -> int:
    """Returns the number of warps of a program that holds a row of so many entries."""
    return min(max(block // _COLUMNS_A_WARP, 1), 16)


def with_segments(term: RowTerm, centred: Tensor, features: int) -> list[Tensor]:
    """Returns the operands of a term and the sums of its segments, which this launches."""
    operands = [tensor.contiguous() for tensor in term]
    slots = slots_for(term.token.numel())
    if not slots:
        return [*operands, centred]  # there are none to add
    width = centred.shape[1]
    partial = centred.new_empty(slots, 2, width)
    block = max(triton.next_power_of_2(width), 16)
    _segment_gradients[(slots,)](
        *operands,
        centred,
        partial,
        features,
        width,
        SEGMENT,
        block,
        AHEAD,
        num_warps=warps_for(block),
        enable_fp_fusion=_FUSED,
    )
    return [*operands, partial]
