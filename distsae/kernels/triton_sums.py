"""Sums of weighted rows on a GPU: row gradients and reconstructions, in the same order each time.

One program owns some columns of one row of the result and walks over the row's entries; rows with hundreds of entries
are summed in segments (`triton_segments.py`). No result depends on other rows, nor on where a slice begins in memory.

Import this module only where Triton is installed. With `TRITON_INTERPRET=1` it computes on a CPU, slowly.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from distsae.kernels.triton_segments import SEGMENT, segment_in, slot_of, slots_for

__all__ = ["block_for", "row_sums", "total_for"]

_BLOCK = 256
"""Number of columns of a row that one program holds."""

_AHEAD = 8
"""Number of entries whose rows are requested before the first of them has arrived."""

_FUSED = True
"""Multiply and add with one rounding. Triton's default differs between versions; the bits should not."""


@triton.jit  # type: ignore[untyped-decorator]
def _sums_between(
    start: tl.tensor,
    end: tl.tensor,
    column: tl.tensor,
    index: tl.tensor,
    weight: tl.tensor,
    vectors: tl.tensor,
    width: int,
    TOTAL: tl.constexpr,
    BLOCK: tl.constexpr,
    AHEAD: tl.constexpr,
) -> tl.tensor:
    """Sums `BLOCK` columns of some entries of a row, strictly in their order."""
    total = tl.zeros((BLOCK,), TOTAL)
    for first in range(start, end, AHEAD):
        for ahead in tl.static_range(AHEAD):
            inside = first + ahead < end
            source = tl.load(index + first + ahead, mask=inside, other=0)
            factor = tl.load(weight + first + ahead, mask=inside, other=0).to(TOTAL)
            columns = tl.where(inside, width, 0)  # so that one comparison masks both
            numbers = tl.load(vectors + source * width + column, mask=column < columns, other=0)
            total += factor * numbers.to(TOTAL)
    return total


@triton.jit(do_not_specialize=["rows"], do_not_specialize_on_alignment=["starts", "index", "weight"])  # type: ignore[untyped-decorator]
def _segment_sums(
    starts: tl.tensor,
    index: tl.tensor,
    weight: tl.tensor,
    vectors: tl.tensor,
    partial: tl.tensor,
    rows: int,
    width: int,
    SEGMENT: tl.constexpr,
    TOTAL: tl.constexpr,
    BLOCK: tl.constexpr,
    AHEAD: tl.constexpr,
) -> None:
    """Sums `BLOCK` columns of the segment in a slot into `partial`, `[slots, width]`."""
    slot = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    start, end = segment_in(slot, starts, rows, SEGMENT)
    if start < end:
        total = _sums_between(start, end, column, index, weight, vectors, width, TOTAL, BLOCK, AHEAD)
        tl.store(partial + slot * width + column, total, mask=column < width)


@triton.jit(do_not_specialize_on_alignment=["starts", "index", "weight"])  # type: ignore[untyped-decorator]
def _weighted_sums(
    starts: tl.tensor,
    index: tl.tensor,
    weight: tl.tensor,
    vectors: tl.tensor,
    partial: tl.tensor,
    sums: tl.tensor,
    width: int,
    SEGMENT: tl.constexpr,
    TOTAL: tl.constexpr,
    BLOCK: tl.constexpr,
    AHEAD: tl.constexpr,
) -> None:
    """Sums `BLOCK` columns of the weighted vectors of one row, or of its segments, strictly in their order."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    first = tl.load(starts + row)
    last = tl.load(starts + row + 1)
    is_long = last - first > SEGMENT
    end = tl.where(is_long, first, last)
    total = _sums_between(first, end, column, index, weight, vectors, width, TOTAL, BLOCK, AHEAD)
    if is_long:
        start = first
        while start < last:
            place = slot_of(first, start, SEGMENT) * width + column
            total += tl.load(partial + place, mask=column < width, other=0)
            start += SEGMENT
    tl.store(sums + row * width + column, total, mask=column < width)


def row_sums(starts: Tensor, index: Tensor, weight: Tensor, vectors: Tensor) -> Tensor:
    """Sums weighted vectors; see `distsae.kernels.operations.Kernels`."""
    rows = starts.numel() - 1
    width = vectors.shape[1]
    if not index.numel():
        return vectors.new_zeros(rows, width)
    sums = vectors.new_empty(rows, width)
    slots = slots_for(index.numel())
    partial = vectors.new_empty(slots, width) if slots else sums  # sums: there are none to add
    block = block_for(width)
    parts = -(-width // block)
    total = total_for(vectors)
    warps = max(block // 128, 1)
    operands = [tensor.contiguous() for tensor in (starts, index, weight, vectors)]
    with torch.cuda.device_of(vectors):  # type: ignore[no-untyped-call]
        if slots:
            _segment_sums[(slots, parts)](
                *operands,
                partial,
                rows,
                width,
                SEGMENT,
                total,
                block,
                _AHEAD,
                num_warps=warps,
                enable_fp_fusion=_FUSED,
            )
        _weighted_sums[(rows, parts)](
            *operands,
            partial,
            sums,
            width,
            SEGMENT,
            total,
            block,
            _AHEAD,
            num_warps=warps,
            enable_fp_fusion=_FUSED,
        )
    return sums


def block_for(width: int) -> int:
    """Returns the number of columns that one program holds of rows of this width."""
    return min(1 << (width - 1).bit_length(), _BLOCK)


def total_for(numbers: Tensor) -> tl.dtype:
    """Returns the dtype in which these numbers are summed."""
    return tl.float64 if numbers.dtype == torch.float64 else tl.float32
