"""The loop that offers chunks to selectors, and the refusal of scores that are not finite."""

import pytest
import torch

from distsae.allocation import Matches, Placement, select
from distsae.allocation.selector import refuse_non_finite
from distsae.errors import NonFiniteScores


class _Recording:
    """Records its calls and resolves in the passes given, counted from 1."""

    def __init__(self, *resolves_in):
        self.resolves_in = resolves_in
        self.calls = []
        self.passes = 0

    def start(self, placement, tokens):
        self.calls.append(("start", tokens))

    def offer(self, first_feature, scores):
        self.calls.append(("offer", first_feature))

    def tally(self):
        return None

    def resolve(self, told):
        assert not told.numel()
        self.passes += 1
        empty = torch.zeros(0, dtype=torch.long)
        return Matches(empty, empty, torch.zeros(0)) if self.passes in self.resolves_in else None


def test_all_selectors_take_part_in_every_pass():
    at_once = _Recording(1, 2)
    later = _Recording(2)
    found = select([later, at_once], lambda: [(0, torch.zeros(2, 3)), (2, torch.zeros(1, 3))], Placement.solo(3), 3)
    assert len(found) == 2
    assert later.calls == at_once.calls == [("start", 3), ("offer", 0), ("offer", 2)] * 2


def test_the_first_rank_with_non_finite_scores_is_named():
    refuse_non_finite(torch.tensor([0, 0, 0]))
    with pytest.raises(NonFiniteScores, match="7 scores are not finite, the first of them on rank 1"):
        refuse_non_finite(torch.tensor([0, 3, 4]))
