"""The operations on a GPU, in Triton where torch has nothing that is both fast and exact.

Torch's own gather-and-add on a GPU either is atomic, and then sums in a different order every time, or holds every
gathered row. Here one program owns one row of the result and walks over the row's matches, and one program computes a
dot product. No result depends on the other rows or pairs of a call, nor on where a slice begins in memory: the bits
follow from the operands alone.

Product and comparison are torch's own, and so is Adam where an update is not whole (`triton_update.py`).

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
from distsae.kernels.triton_update import update_rows

__all__ = ["TRITON"]

_BLOCK = 256
"""Number of columns of a row that one program holds."""

_AHEAD = 8
"""Number of matches whose rows are requested before the first of them has arrived."""

_FUSED = True
"""Multiply and add with one rounding. Triton's default differs between versions; the bits should not."""


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
    """Sums `BLOCK` columns of the weighted vectors of one row, strictly in their order."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), TOTAL)
    last = tl.load(starts + row + 1)
    for first in range(tl.load(starts + row), last, AHEAD):
        for ahead in tl.static_range(AHEAD):
            inside = first + ahead < last
            source = tl.load(index + first + ahead, mask=inside, other=0)
            factor = tl.load(weight + first + ahead, mask=inside, other=0).to(TOTAL)
            columns = tl.where(inside, width, 0)  # so that one comparison masks both
            numbers = tl.load(vectors + source * width + column, mask=column < columns, other=0)
            total += factor * numbers.to(TOTAL)
    tl.store(sums + row * width + column, total, mask=column < width)


@triton.jit  # type: ignore[untyped-decorator]
def _dot(row: tl.tensor, vector: tl.tensor, width: int, TOTAL: tl.constexpr, BLOCK: tl.constexpr) -> tl.tensor:
    """Returns the dot product of two rows at these addresses."""
    total = tl.zeros((BLOCK,), TOTAL)
    for first in range(0, width, BLOCK):
        column = first + tl.arange(0, BLOCK)
        from_row = tl.load(row + column, mask=column < width, other=0).to(TOTAL)
        total += from_row * tl.load(vector + column, mask=column < width, other=0).to(TOTAL)
    return tl.sum(total)


# One compilation per dtype and block, whatever the alignment of the operands: wider loads would change the sum's order.
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
    """Computes the dot product of the row and the vector of one pair."""
    pair = tl.program_id(0).to(tl.int64)
    row = rows + tl.load(feature + pair) * width
    vector = vectors + tl.load(token + pair) * width
    tl.store(dots + pair, _dot(row, vector, width, TOTAL, BLOCK))


@triton.jit(do_not_specialize=["width", "tokens"], do_not_specialize_on_alignment=["flat", "rows", "biases", "vectors"])  # type: ignore[untyped-decorator]
def _scores(
    flat: tl.tensor,
    rows: tl.tensor,
    biases: tl.tensor,
    vectors: tl.tensor,
    bounds: tl.tensor,
    scores: tl.tensor,
    pairs: int,
    tokens: int,
    width: int,
    A_BOUND_EACH: tl.constexpr,
    TOTAL: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Computes the score of one place, or 0 if the place is empty or the score does not reach its bound."""
    place = tl.program_id(0).to(tl.int64)
    index = tl.load(flat + place)
    there = index < pairs
    feature = tl.where(there, index // tokens, 0)
    token = tl.where(there, index - feature * tokens, 0)
    columns = tl.where(there, width, 0)  # an empty place computes nothing
    score = _dot(rows + feature * width, vectors + token * width, columns, TOTAL, BLOCK) + tl.load(biases + feature)
    bound = tl.load(bounds + (feature if A_BOUND_EACH else 0))
    found = tl.where(there & (score >= bound) & (score > 0), score, 0.0)
    tl.store(scores + place, found)


def _upper_scores(rows: Tensor, columns: Tensor, out: Tensor) -> None:
    matmul = torch.backends.cuda.matmul
    if matmul.allow_bf16_reduced_precision_reduction:  # a product split along its width would add partial sums in bf16
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


def _scores_at(flat: Tensor, rows: Tensor, biases: Tensor, vectors: Tensor, bound: Tensor) -> Tensor:
    scores = rows.new_empty(flat.numel())
    width = rows.shape[1]
    operands = [tensor.contiguous() for tensor in (flat, rows, biases, vectors, bound)]
    with torch.cuda.device_of(rows):  # type: ignore[no-untyped-call]
        _scores[(flat.numel(),)](
            *operands,
            scores,
            rows.shape[0] * vectors.shape[0],
            vectors.shape[0],
            width,
            bound.numel() > 1,
            _total(rows),
            _block(width),
            num_warps=1,
            enable_fp_fusion=_FUSED,
        )
    return scores


def _row_sums(starts: Tensor, index: Tensor, weight: Tensor, vectors: Tensor) -> Tensor:
    rows = starts.numel() - 1
    width = vectors.shape[1]
    if not index.numel():
        return vectors.new_zeros(rows, width)
    sums = vectors.new_empty(rows, width)
    block = _block(width)
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
    """Returns the number of columns that one program holds of rows of this width."""
    return min(1 << (width - 1).bit_length(), _BLOCK)


def _total(numbers: Tensor) -> tl.dtype:
    """Returns the dtype in which these numbers are summed."""
    return tl.float64 if numbers.dtype == torch.float64 else tl.float32


TRITON = Kernels(
    "triton", _upper_scores, REFERENCE.above, _decode, _match_dots, _row_sums, CPU.adam, update_rows, _scores_at
)
"""Every operation for a GPU."""
