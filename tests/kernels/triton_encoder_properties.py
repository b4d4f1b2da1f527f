"""The product that keeps one bit a score, and the places of these bits: on a GPU, or in Triton's interpreter.

The interpreter gets fp16 numbers, since it multiplies bf16 wrongly. `test_triton_encoder.py` runs this in a process of
its own.
"""

import pytest
import torch

from distsae.allocation.scores import EMPTY
from distsae.allocation.segments import true_indices_within
from distsae.kernels.triton_bits import first_ones
from distsae.kernels.triton_encoder import places_above, upper_bits

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPE = torch.bfloat16 if DEVICE.type == "cuda" else torch.float16
SHAPES = [(1, 1, 16), (5, 31, 16), (40, 33, 48), (33, 70, 80), (130, 64, 16)]
"""Features, tokens, width: below, at and above a part of the product, and a word."""


PARTS = (32, 32, 32)


def _mask(words, tokens):
    """The bits as a matrix."""
    bits = words.cpu()[:, :, None] >> torch.arange(32, dtype=torch.int32) & 1
    return bits.flatten(1)[:, :tokens].bool(), bits.flatten(1)[:, tokens:]


def _numbers(shape):
    """Small whole numbers: their products are exact in any order, and many of them tie."""
    features, tokens, width = shape
    generator = torch.Generator().manual_seed(features * tokens)
    rows, columns = (torch.randint(-2, 3, (n, width), generator=generator) for n in (features, tokens))
    return rows, columns, rows.float() @ columns.float().t()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("each", [False, True], ids=["one bound", "a bound each"])
def test_a_bit_says_whether_a_positive_score_reaches_its_bound(shape, each):
    rows, columns, scores = _numbers(shape)
    left, right = (part.to(DTYPE).to(DEVICE) for part in (rows, columns))
    bounds = [torch.full((1, 1), bound) for bound in (0.0, 4.0, torch.inf)]
    if each:
        bounds = [(torch.arange(shape[0]) % 5).float()[:, None]]
        bounds[0][::7] = torch.inf
    for bound in bounds:
        expected = (scores >= bound) & (scores > 0)
        found, rest = _mask(upper_bits(left, right, bound.to(DEVICE), PARTS), shape[1])
        assert torch.equal(found, expected)
        assert not rest.any()
        places = int(expected.sum()) // 2 + 1
        listed = places_above(left, right, bound.to(DEVICE), places)
        assert torch.equal(listed.cpu(), true_indices_within(expected.contiguous(), places, EMPTY))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 1.0])
@pytest.mark.parametrize(("rows", "row"), [(1, 1), (3, 32), (7, 33), (40, 1000), (2, 70000)])
def test_the_first_ones_are_listed_in_order(rows, row, share):
    """Also over several programs, in words that are full, and with bit 31, the sign of a word."""
    generator = torch.Generator().manual_seed(row)
    mask = torch.rand(rows, row, generator=generator) < share
    padded = torch.zeros(rows, -(-row // 32) * 32, dtype=torch.int64)
    padded[:, :row] = mask
    words = (padded.view(rows, -1, 32) << torch.arange(32)).sum(2).to(torch.int32).to(DEVICE)
    number = int(mask.sum())
    for places in (1, number // 2 + 1, number + 10):
        found = first_ones(words, row, places)
        assert torch.equal(found.cpu(), true_indices_within(mask, places, EMPTY))
