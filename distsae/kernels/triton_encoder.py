"""The encoder of a GPU: a product that keeps one bit of each score, whether its upper bound reaches a lower bound.

A matrix of upper bounds in bf16 is written once and read several times, 2 bytes a score each time, to find about one in
a thousand. Here a program compares its part of the product with the bounds while it is still in registers, in fp32 as
it was summed, and writes 32 comparisons as one word. The bias and the certified margins are columns of the product.

Import this module only where Triton is installed. With `TRITON_INTERPRET=1` it computes on a CPU, slowly, and bf16
wrongly: the interpreter multiplies fp16 as it should.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from distsae.kernels.triton_bits import first_ones

__all__ = ["PARTS", "places_above", "upper_bits"]

PARTS = {8: (128, 128, 64), 9: (128, 256, 64)}
"""By the major number of a GPU's compute capability, and for later ones: features and tokens of a program's part of the
product, and columns that it loads at a time."""

_GROUP = 8
"""Parts along the features that are computed together, so that the tokens' rows stay in the cache."""


@triton.jit  # type: ignore[untyped-decorator]
def _upper_bits(
    rows: tl.tensor,
    columns: tl.tensor,
    bounds: tl.tensor,
    bits: tl.tensor,
    features: int,
    tokens: int,
    width: int,
    words: int,
    A_BOUND_EACH: tl.constexpr,
    FEATURES: tl.constexpr,
    TOKENS: tl.constexpr,
    COLUMNS: tl.constexpr,
    GROUP: tl.constexpr,
) -> None:
    """Computes the bits of `FEATURES` x `TOKENS` scores."""
    program = tl.program_id(0)
    along_features = tl.cdiv(features, FEATURES)
    of_group = GROUP * tl.cdiv(tokens, TOKENS)
    first_part = program // of_group * GROUP
    parts = tl.minimum(along_features - first_part, GROUP)
    feature = (first_part + program % of_group % parts) * FEATURES + tl.arange(0, FEATURES)
    token_part = program % of_group // parts
    token = token_part * TOKENS + tl.arange(0, TOKENS)
    column = tl.arange(0, COLUMNS)
    row = rows + (feature % features).to(tl.int64)[:, None] * width + column[None, :]
    vector = columns + (token % tokens).to(tl.int64)[None, :] * width + column[:, None]
    upper = tl.zeros((FEATURES, TOKENS), tl.float32)
    for first in range(0, width, COLUMNS):
        left = tl.load(row, mask=column[None, :] < width - first, other=0)
        right = tl.load(vector, mask=column[:, None] < width - first, other=0)
        upper = tl.dot(left, right, upper)
        row += COLUMNS
        vector += COLUMNS
    real = feature < features
    bound = tl.load(bounds + (feature if A_BOUND_EACH else feature * 0), mask=real, other=float("inf"))
    above = (upper >= bound[:, None]) & (upper > 0) & (token < tokens)[None, :]
    bit = above.to(tl.int32) << (tl.arange(0, TOKENS) % 32)[None, :]
    word = tl.sum(tl.reshape(bit, (FEATURES, TOKENS // 32, 32)), axis=2)
    place = token_part * (TOKENS // 32) + tl.arange(0, TOKENS // 32)
    address = bits + feature.to(tl.int64)[:, None] * words + place[None, :]
    tl.store(address, word, mask=real[:, None] & (place < words)[None, :])


def upper_bits(rows: Tensor, columns: Tensor, bound: Tensor, parts: tuple[int, int, int]) -> Tensor:
    """Returns whether `rows[feature] . columns[token]` is positive and at least a bound, one bit each.

    Args:
        rows: `[features, width]`, of the same dtype of 16 bits as `columns`.
        columns: `[tokens, width]`.
        bound: lower bounds, not negative, fp32 `[1, 1]` or `[features, 1]`.
        parts: features, tokens and columns of a part, powers of two of at least 32, 32 and 16.

    Returns:
        int32 `[features, ceil(tokens / 32)]`; token `t` is bit `t % 32` of word `t // 32`.
    """
    features, width = rows.shape
    tokens = columns.shape[0]
    words = -(-tokens // 32)
    of_features, of_tokens, of_columns = parts
    bits = torch.empty(features, words, dtype=torch.int32, device=rows.device)
    with torch.cuda.device_of(rows):  # type: ignore[no-untyped-call]
        _upper_bits[(-(-features // of_features) * -(-tokens // of_tokens),)](
            rows.contiguous(),
            columns.contiguous(),
            bound.contiguous(),
            bits,
            features,
            tokens,
            width,
            words,
            bound.numel() > 1,
            of_features,
            of_tokens,
            of_columns,
            _GROUP,
            num_warps=8,
            num_stages=3,
        )
    return bits


def places_above(rows: Tensor, columns: Tensor, bound: Tensor, places: int) -> Tensor:
    """Finds the pairs whose upper bound reaches a lower bound; see `distsae.kernels.operations.Kernels`."""
    major = torch.cuda.get_device_capability(rows.device)[0] if rows.is_cuda else min(PARTS)
    bits = upper_bits(rows, columns, bound, PARTS[min(major, max(PARTS))])
    return first_ones(bits, columns.shape[0], places)
