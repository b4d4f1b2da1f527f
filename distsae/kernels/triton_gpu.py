"""The operations on a GPU, in Triton where torch has nothing that is both fast and exact.

Torch's own gather-and-add on a GPU is either atomic, and then sums in another order every time, or holds every gathered
row. Here a program owns one row of the result and walks over the row's matches; a dot product is one program's. Nothing
depends on the other rows or pairs of a call, nor on where a slice begins: the bits are those of the operands.

Product, comparison and Adam are torch's own: its fused Adam moves all tensors of a block in one launch, as a kernel of
ours would.

Import this module only where Triton is installed. With `TRITON_INTERPRET=1` it computes on a CPU, slowly.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from distsae.allocation import Matches
from distsae.kernels.cpu import CPU, row_starts
from distsae.kernels.operations import Kernels
from distsae.kernels.reference import REFERENCE

__all__ = ["TRITON"]

_BLOCK = 256
"""Numbers of a row that a program holds."""

_AHEAD = 8
"""Matches whose rows are asked for before the first of them has come."""

_FUSED = True
"""Multiply and add with one rounding: Triton's default is not the same in all versions, the bits should be."""


@triton.jit(do_not_specialize_on_alignment=["starts", "index", "weight"])  # type: ignore[untyped-decorator]
def _weighted_sums(
    starts: tl.tensor,
    index: tl.tensor,
    weight: tl.tensor,
    vectors: tl.tensor,
    sums: tl.tensor,
    width: int,
    TOTAL: tl.constexpr,
    BLOCK: tl.constexpr,
    AHEAD: tl.constexpr,
) -> None:
    """Sums the weighted vectors of one row, `BLOCK` columns of it, strictly in their order."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), TOTAL)
    last = tl.load(starts + row + 1)
    for first in range(tl.load(starts + row), last, AHEAD):
        for place in tl.static_range(AHEAD):
            inside = first + place < last
            source = tl.load(index + first + place, mask=inside, other=0)
            factor = tl.load(weight + first + place, mask=inside, other=0).to(TOTAL)
            columns = tl.where(inside, width, 0)  # one comparison says both
            numbers = tl.load(vectors + source * width + column, mask=column < columns, other=0)
            total += factor * numbers.to(TOTAL)
    tl.store(sums + row * width + column, total, mask=column < width)


# Compiled once for a width, whatever is known of this call's addresses: another vector width would make another sum.
@triton.jit(do_not_specialize=["width"], do_not_specialize_on_alignment=["feature", "token", "rows", "vectors", "dots"])  # type: ignore[untyped-decorator]
def _dots(
    feature: tl.tensor,
    token: tl.tensor,
    rows: tl.tensor,
    vectors: tl.tensor,
    dots: tl.tensor,
    width: int,
    TOTAL: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Multiplies the row and the vector of one pair."""
    pair = tl.program_id(0).to(tl.int64)
    row = rows + tl.load(feature + pair) * width
    vector = vectors + tl.load(token + pair) * width
    total = tl.zeros((BLOCK,), TOTAL)
    for first in range(0, width, BLOCK):
        column = first + tl.arange(0, BLOCK)
        one = tl.load(row + column, mask=column < width, other=0).to(TOTAL)
        total += one * tl.load(vector + column, mask=column < width, other=0).to(TOTAL)
    tl.store(dots + pair, tl.sum(total))


def _upper_scores(rows: Tensor, columns: Tensor, out: Tensor) -> None:
    matmul = torch.backends.cuda.matmul
    if matmul.allow_bf16_reduced_precision_reduction:  # a product split along its width would add up bf16 parts
        matmul.allow_bf16_reduced_precision_reduction = False
    torch.mm(rows, columns.t(), out=out)


def _decode(by_token: Matches, W_dec: Tensor, tokens: int) -> Tensor:
    return _row_sums(row_starts(by_token.token, tokens), by_token.feature, by_token.score, W_dec)


def _match_dots(feature: Tensor, token: Tensor, rows: Tensor, vectors: Tensor) -> Tensor:
    dots = rows.new_empty(feature.numel())
    if not feature.numel():
        return dots
    width = rows.shape[1]
    operands = [tensor.contiguous() for tensor in (feature, token, rows, vectors)]
    with torch.cuda.device_of(rows):  # type: ignore[no-untyped-call]
        _dots[(feature.numel(),)](
            *operands, dots, width, _total(rows), _block(width), num_warps=1, enable_fp_fusion=_FUSED
        )
    return dots


def _row_sums(starts: Tensor, index: Tensor, weight: Tensor, vectors: Tensor) -> Tensor:
    rows, width = starts.numel() - 1, vectors.shape[1]
    if not index.numel():
        return vectors.new_zeros(rows, width)
    sums, block = vectors.new_empty(rows, width), _block(width)
    operands = [tensor.contiguous() for tensor in (starts, index, weight, vectors)]
    with torch.cuda.device_of(vectors):  # type: ignore[no-untyped-call]
        _weighted_sums[(rows, -(-width // block))](
            *operands,
            sums,
            width,
            _total(vectors),
            block,
            _AHEAD,
            num_warps=max(block // 128, 1),
            enable_fp_fusion=_FUSED,
        )
    return sums


def _block(width: int) -> int:
    return min(1 << (width - 1).bit_length(), _BLOCK)


def _total(numbers: Tensor) -> tl.dtype:
    return tl.float64 if numbers.dtype == torch.float64 else tl.float32


TRITON = Kernels("triton", _upper_scores, REFERENCE.above, _decode, _match_dots, _row_sums, CPU.adam)
"""Every operation for a GPU."""
