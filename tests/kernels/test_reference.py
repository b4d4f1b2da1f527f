"""The reference against numbers computed by hand; `test_cpu.py` compares it with dense products."""

import pytest
import torch

from distsae.allocation import Matches
from distsae.kernels import REFERENCE, row_starts

MATCHES = Matches(torch.tensor([2, 0, 2]), torch.tensor([0, 1, 1]), torch.tensor([0.5, 2.0, 3.0]))  # by feature
ROWS = torch.tensor([[1.0, 2.0], [3.0, -1.0], [7.0, 7.0]])
VECTORS = torch.tensor([[1.0, 0.0], [9.0, 9.0], [2.0, -2.0]])


TWO_ROWS = 2 * 2 * 4  # bytes, less than the three matches gather


@pytest.mark.parametrize("limit", [{}, {"gather_bytes": TWO_ROWS}], ids=["at once", "two at a time"])
def test_each_operation_by_hand(limit):
    decoded = REFERENCE.decode(MATCHES.by_token(), ROWS, 3, **limit)
    assert decoded.tolist() == [[6.0, -2.0], [0.0, 0.0], [9.5, -2.0]]
    dots = REFERENCE.match_dots(MATCHES.feature, MATCHES.token, ROWS, VECTORS, **limit)
    assert dots.tolist() == [-2.0, 3.0, 8.0]
    sums = REFERENCE.row_sums(row_starts(MATCHES.feature, 3), MATCHES.token, MATCHES.score, VECTORS, **limit)
    assert sums.tolist() == [[1.0, -1.0], [8.0, -6.0], [0.0, 0.0]]


def test_only_nan_is_larger_than_infinity():
    scores = torch.tensor([[1.0, torch.inf], [torch.nan, -torch.inf]]).bfloat16()
    assert REFERENCE.above(scores, torch.tensor([torch.inf]).bfloat16()).tolist() == [2]
    assert REFERENCE.above(scores, torch.tensor([0.0]).bfloat16()).tolist() == [0, 1, 2]
