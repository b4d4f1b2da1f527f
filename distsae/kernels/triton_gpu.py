"""The operations on a GPU, in Triton where torch has nothing that is both fast and exact.

Torch's own gather-and-add on a GPU either is atomic, and then sums in a different order every time, or holds every
gathered row. Here one program owns one row of the result and walks over the row's matches (`triton_sums.py`), and one
program computes a dot product. No result depends on the other rows or pairs of a call, nor on where a slice begins in
memory: the bits follow from the operands alone.

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
from distsae.kernels.triton_encoder import places_above
from distsae.kernels.triton_sums import block_for, row_sums, total_for
from distsae.kernels.triton_update import update_rows

__all__ = ["TRITON"]

_FUSED = True
"""Multiply and add with one rounding. Triton's default differs between versions; the bits should not."""


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
    return row_sums(row_starts(by_token.token, tokens), by_token.feature, by_token.score, W_dec)


def _match_dots(feature: Tensor, token: Tensor, rows: Tensor, vectors: Tensor) -> Tensor:
    dots = rows.new_empty(feature.numel())
    if not feature.numel():
        return dots
    width = rows.shape[1]
    operands = [tensor.contiguous() for tensor in (feature, token, rows, vectors)]
    with torch.cuda.device_of(rows):  # type: ignore[no-untyped-call]
        _dots[(feature.numel(),)](
            *operands, dots, width, total_for(rows), block_for(width), num_warps=1, enable_fp_fusion=_FUSED
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
            total_for(rows),
            block_for(width),
            num_warps=1,
            enable_fp_fusion=_FUSED,
        )
    return scores


TRITON = Kernels(
    "triton",
    _upper_scores,
    REFERENCE.above,
    _decode,
    _match_dots,
    row_sums,
    CPU.adam,
    update_rows,
    _scores_at,
    places_above,
)
"""Every operation for a GPU."""
