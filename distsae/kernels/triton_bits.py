"""From one bit a score to the places of the ones, in order, without a sort and without a wait of the CPU.

Programs count the bits of their words, a scan of these counts says where each program's places begin, and the programs
list them there.

Import this module only where Triton is installed. With `TRITON_INTERPRET=1` it computes on a CPU, slowly.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from distsae.allocation.scores import EMPTY

__all__ = ["first_ones"]

_WORDS = 1024
"""Words of a program."""


@triton.jit  # type: ignore[untyped-decorator]
def _ones(word: tl.tensor) -> tl.tensor:
    """Returns the number of ones in each word, uint32: first of two bits, then of four, of eight, and of all."""
    word = word - ((word >> 1) & 0x55555555)
    word = (word & 0x33333333) + ((word >> 2) & 0x33333333)
    word = (word + (word >> 4)) & 0x0F0F0F0F
    word = word + (word >> 8)
    return ((word + (word >> 16)) & 0x3F).to(tl.int32)


@triton.jit  # type: ignore[untyped-decorator]
def _count_ones(words: tl.tensor, counts: tl.tensor, number: int, WORDS: tl.constexpr) -> None:
    """Counts the ones of `WORDS` words."""
    program = tl.program_id(0)
    at = program.to(tl.int64) * WORDS + tl.arange(0, WORDS)
    word = tl.load(words + at, mask=at < number, other=0).to(tl.uint32, bitcast=True)
    tl.store(counts + program, tl.sum(_ones(word)))


@triton.jit  # type: ignore[untyped-decorator]
def _list_ones(
    words: tl.tensor,
    ends: tl.tensor,
    flat: tl.tensor,
    number: int,
    words_a_row: int,
    row: int,
    places: int,
    WORDS: tl.constexpr,
) -> None:
    """Stores the flat index of each one of `WORDS` words, in order, as far as there are places."""
    program = tl.program_id(0)
    at = program.to(tl.int64) * WORDS + tl.arange(0, WORDS)
    word = tl.load(words + at, mask=at < number, other=0).to(tl.uint32, bitcast=True)
    ones = _ones(word)
    place = tl.load(ends + program) - tl.sum(ones) + tl.cumsum(ones, 0) - ones
    first = at // words_a_row * row + at % words_a_row * 32
    for _ in range(0, tl.max(ones)):
        below = (word - 1) & ~word  # ones where the word has zeros below its lowest one
        tl.store(flat + place, first + _ones(below), mask=(word != 0) & (place < places))
        place += 1
        word = word & (word - 1)  # without its lowest one


def first_ones(words: Tensor, row: int, places: int) -> Tensor:
    """Returns the flat indices of the first ones of a matrix of bits.

    Args:
        words: the bits of each row, from the lowest bit of its first word on, int32 `[rows, words of a row]`; bits past
            the end of a row are 0.
        row: number of bits of a row.
        places: number of indices to return.

    Returns:
        Indices, int64 `[places]`, ascending: first those of ones, then `EMPTY`.
    """
    number = words.numel()
    programs = -(-number // _WORDS)
    counts = torch.empty(programs, dtype=torch.int32, device=words.device)
    flat = torch.full((places,), EMPTY, dtype=torch.int64, device=words.device)
    with torch.cuda.device_of(words):  # type: ignore[no-untyped-call]
        _count_ones[(programs,)](words, counts, number, _WORDS, num_warps=4)
        ends = counts.cumsum(0)
        _list_ones[(programs,)](words, ends, flat, number, words.shape[1], row, places, _WORDS, num_warps=4)
    return flat
