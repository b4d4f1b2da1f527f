"""`run_on_mesh` itself: results come back in rank order, and failures and time limits reach the test."""

import os
import time

import pytest
import torch

from tests.distributed.processes import MESHES, RankFailed, end_processes, run_on_mesh


def _ranks_and_sizes(mesh):
    return mesh.world.rank, mesh.data.rank, mesh.feature.rank, mesh.world.size, mesh.data.size, mesh.feature.size


def test_every_rank_has_its_mesh():
    assert run_on_mesh(_ranks_and_sizes, (1, 1)) == [(0, 0, 0, 1, 1, 1)]
    for data, feature in MESHES:
        expected = [
            (rank, rank // feature, rank % feature, data * feature, data, feature) for rank in range(data * feature)
        ]
        assert run_on_mesh(_ranks_and_sizes, (data, feature)) == expected


def _fails_on_the_last(mesh):
    if mesh.world.rank == mesh.world.size - 1:
        raise ValueError("planted")
    return mesh.world.sum(torch.ones(1))


def _ends(mesh):
    os._exit(3)


def _sleeps(mesh):
    time.sleep(60)


@pytest.mark.heavy
def test_failures_reach_the_test_and_do_not_affect_the_next_call():
    with pytest.raises(RankFailed, match=r"(?s)rank 1 of 1x2:.*ValueError: planted"):
        run_on_mesh(_fails_on_the_last, (1, 2))
    with pytest.raises(RankFailed, match=r"rank [01] of 2x1: it ended"):
        run_on_mesh(_ends, (2, 1))
    with pytest.raises(RankFailed, match=r"2 of 2 ranks had not answered after 1 s"):
        run_on_mesh(_sleeps, (2, 1), seconds=1)
    assert len(run_on_mesh(_ranks_and_sizes, (2, 1))) == 2


def _pid(mesh):
    return os.getpid()


@pytest.mark.heavy
def test_processes_are_used_again_until_they_are_ended():
    first = run_on_mesh(_pid, (2, 1))
    assert run_on_mesh(_pid, (1, 2)) == first
    end_processes()
    assert not set(run_on_mesh(_pid, (1, 2))) & set(first)
