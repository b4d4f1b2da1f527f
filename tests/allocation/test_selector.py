"""What the selectors share."""

import pytest
import torch

from distsae.allocation import Matches, Placement, select
from distsae.allocation.selector import refuse_non_finite
from distsae.errors import NonFiniteScores


class _AsksAgain:
    """Wants a second pass the first time; remembers what it was told."""

    def __init__(self, passes):
        self.passes, self.told = passes, []

    def start(self, placement, tokens):
        self.told.append(("begin", tokens))

    def offer(self, first_feature, scores):
        self.told.append(("offer", first_feature))

    def resolve(self):
        self.passes -= 1
        empty = torch.zeros(0, dtype=torch.long)
        return None if self.passes else Matches(empty, empty, torch.zeros(0))


def test_all_selectors_see_every_pass():
    content, patient = _AsksAgain(1), _AsksAgain(2)
    content.passes = 2  # settles in the second pass as well
    found = select([patient, content], lambda: [(0, torch.zeros(2, 3)), (2, torch.zeros(1, 3))], Placement.solo(3), 3)
    assert len(found) == 2
    assert patient.told == content.told == [("begin", 3), ("offer", 0), ("offer", 2)] * 2


def test_the_first_bad_rank_is_named():
    refuse_non_finite(torch.tensor([0, 0, 0]))
    with pytest.raises(NonFiniteScores, match="7 scores are not finite, the first of them on rank 1"):
        refuse_non_finite(torch.tensor([0, 3, 4]))
