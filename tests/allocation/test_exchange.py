"""The exchange of candidates on one rank; tests/distributed has it between real processes."""

import torch

from distsae.allocation.exchange import CandidateExchange, pick_of_all
from distsae.collective import Solo


class _Counted(Solo):
    """A group of one process that counts its collectives."""

    collectives = 0

    def stack(self, tensor):
        self.collectives += 1
        return super().stack(tensor)


def test_nothing_is_lost_whatever_the_length():
    exchange = CandidateExchange()
    for length in (0, 5, 1000, 3, 70, 0, 5000):
        body = torch.arange(length, dtype=torch.int32)
        (found,) = exchange.gather(Solo(), body)
        assert torch.equal(found, body)


def test_a_restored_exchange_needs_one_collective_where_a_new_one_needs_two():
    body = torch.arange(1000, dtype=torch.int32)
    exchange = CandidateExchange()
    group = _Counted()
    exchange.gather(group, body)
    assert group.collectives == 2
    resumed = CandidateExchange()
    resumed.restore_forecast(exchange.forecast())
    group = _Counted()
    (found,) = resumed.gather(group, body)
    assert group.collectives == 1
    assert torch.equal(found, body)
    assert resumed.forecast() == exchange.forecast()
    resumed.restore_forecast({})
    assert resumed.forecast() == CandidateExchange().forecast()


def test_ties_go_to_the_earlier_rank_and_to_the_earlier_candidate():
    segments = [torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])]
    scores = [torch.tensor([2.0, 1.0, 1.0]), torch.tensor([2.0, 3.0, 1.0])]
    quotas = torch.tensor([2, 1])
    picked, own = pick_of_all(segments, scores, quotas, 0)
    assert picked.tolist() == [0, 1, 4]
    assert own.tolist() == [0, 1]
    assert pick_of_all(segments, scores, quotas, 1)[1].tolist() == [1]
