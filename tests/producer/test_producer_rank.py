import pytest
import torch

from distsae.errors import WrongInput
from distsae.producer.producer_rank import ProducerRank, own_device, producer_rank, unit_queue


@pytest.mark.parametrize(
    ("environment", "place"),
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
def test_place_from_the_launcher(environment, place):
    assert producer_rank(environment) == place


@pytest.mark.parametrize(("size", "units"), [(1, 5), (3, 10), (4, 2)])
def test_queue_holds_every_unit_own_share_first(size, units):
    starts = []
    for rank in range(size):
        queue = unit_queue(ProducerRank(rank, size, 0), units)
        assert sorted(queue) == list(range(units))
        share = list(range(rank, units, size))
        assert queue[: len(share)] == share
        starts += queue[: len(share)]
    assert sorted(starts) == list(range(units))


def test_device():
    assert own_device("cpu", ProducerRank(0, 1, 0)) == torch.device("cpu")
    assert own_device("auto", ProducerRank(0, 1, 0)).type in ("cpu", "cuda")
    for wrong in ("nonsense", "cuda:99"):
        with pytest.raises(WrongInput, match="`device`"):
            own_device(wrong, ProducerRank(0, 1, 0))
