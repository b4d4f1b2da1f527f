"""The exchange of candidates on one rank; tests/distributed has it between real processes."""

import torch

from distsae.allocation.exchange import CandidateExchange, pick_of_all
from distsae.collective import Solo


def test_whatever_the_length_nothing_is_lost():
    exchange = CandidateExchange()
    for length in (0, 5, 1000, 3, 70, 0, 5000):
        body = torch.arange(length, dtype=torch.int32)
        (found,) = exchange.gather(Solo(), body)
        assert torch.equal(found, body)


def test_ties_go_to_the_earlier_rank_and_to_the_earlier_candidate():
    segments = [torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])]
    scores = [torch.tensor([2.0, 1.0, 1.0]), torch.tensor([2.0, 3.0, 1.0])]
    quotas = torch.tensor([2, 1])
    picked, mine = pick_of_all(segments, scores, quotas, 0)
    assert picked.tolist() == [0, 1, 4]
    assert mine.tolist() == [0, 1]
    assert pick_of_all(segments, scores, quotas, 1)[1].tolist() == [1]
