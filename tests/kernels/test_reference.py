"""The plain statements against loops over numbers; the fast versions are compared with them in test_cpu.py."""

import torch

from distsae.allocation import Matches
from distsae.kernels import REFERENCE, reference, row_starts

MATCHES = Matches(torch.tensor([2, 0, 2]), torch.tensor([0, 1, 1]), torch.tensor([0.5, 2.0, 3.0]))  # by feature
ROWS = torch.tensor([[1.0, 2.0], [3.0, -1.0], [7.0, 7.0]])
VECTORS = torch.tensor([[1.0, 0.0], [9.0, 9.0], [2.0, -2.0]])


def test_each_operation_by_hand(monkeypatch):
    monkeypatch.setattr(reference, "_GATHER_BYTES", 2 * 2 * 4)  # two matches at a time
    decoded = REFERENCE.decode(MATCHES.by_token(), ROWS, 3)
    assert decoded.tolist() == [[6.0, -2.0], [0.0, 0.0], [9.5, -2.0]]
    dots = REFERENCE.match_dots(MATCHES.feature, MATCHES.token, ROWS, VECTORS)
    assert dots.tolist() == [-2.0, 3.0, 8.0]
    sums = REFERENCE.row_sums(row_starts(MATCHES.feature, 3), MATCHES.token, MATCHES.score, VECTORS)
    assert sums.tolist() == [[1.0, -1.0], [8.0, -6.0], [0.0, 0.0]]


def test_nothing_is_larger_than_infinity_but_what_is_not_a_number():
    scores = torch.tensor([[1.0, torch.inf], [torch.nan, -torch.inf]]).bfloat16()
    assert REFERENCE.above(scores, torch.tensor([torch.inf]).bfloat16()).tolist() == [2]
    assert REFERENCE.above(scores, torch.tensor([0.0]).bfloat16()).tolist() == [0, 1, 2]
