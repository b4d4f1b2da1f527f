import pytest

from distsae.producer.producer_rank import ProducerRank, producer_rank, unit_queue


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ProducerRank(0, 1, 0)),
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, ProducerRank(3, 8, 1)),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}, ProducerRank(2, 4, 0)),
        (
            {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "4"},
            ProducerRank(2, 4, 0),
        ),
    ],
)
def test_the_rank_is_read_from_the_launchers_variables(environment, expected):
    assert producer_rank(environment) == expected


@pytest.mark.parametrize(("size", "units"), [(1, 5), (3, 10), (4, 2)])
def test_a_queue_holds_every_unit_and_the_ranks_own_share_first(size, units):
    starts = []
    for rank in range(size):
        queue = unit_queue(ProducerRank(rank, size, 0), units)
        assert sorted(queue) == list(range(units))
        share = list(range(rank, units, size))
        assert queue[: len(share)] == share
        starts += queue[: len(share)]
    assert sorted(starts) == list(range(units))


def test_a_queue_takes_the_shares_of_other_ranks_from_their_ends():
    assert unit_queue(ProducerRank(1, 3, 0), 8) == [1, 4, 7, 5, 2, 6, 3, 0]
