"""Wrong sums and gathers are named."""

import torch

from distsae.collective import Solo
from distsae.recipes.check.group_rank import wrong_collectives

CPU = torch.device("cpu")


class _Doubling(Solo):
    def sum(self, tensor):
        return 2 * tensor


class _Shuffling(Solo):
    def gather(self, tensor):
        return [tensor + 1]


def test_collectives_that_give_something_else_are_named():
    assert wrong_collectives(Solo(), CPU) == []
    assert wrong_collectives(_Doubling(), CPU) == ["sum"]
    assert wrong_collectives(_Shuffling(), CPU) == ["gather"]
