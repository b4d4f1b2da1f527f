"""Processes and mesh must fit before anything is set up."""

from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from distsae.errors import WrongInput
from distsae.parallel import Mesh, MeshConfig
from distsae.training import TrainConfig
from distsae.training.guards.accelerator import check_processes, longest_wait, start_accelerator, wait_for
from tests.distributed.processes import run_on_mesh


def test_a_mesh_that_the_processes_cannot_fill(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    check_processes(MeshConfig())
    with pytest.raises(WrongInput, match=r"\(=2 \* 3\) must equal the number of processes; got 1; start 6 with"):
        check_processes(MeshConfig(data=2, feature=3))
    monkeypatch.setenv("WORLD_SIZE", "4")
    check_processes(MeshConfig(data=2, feature=2))
    with pytest.raises(WrongInput, match="got 4; start 1 with"):
        check_processes(MeshConfig())


def test_one_process_on_the_cpu(monkeypatch, tmp_path):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    accelerator = start_accelerator(TrainConfig(store="s", out=str(tmp_path), wandb="off"))
    assert accelerator.num_processes == 1
    assert accelerator.is_main_process
    assert accelerator.trackers == []


def test_processes_that_accelerate_does_not_see_are_an_error(monkeypatch, tmp_path):
    """`accelerate launch` with `use_cpu` alone starts processes that each believe to be alone."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(WrongInput, match=r"accelerate sees 1 process\(es\) of 2 launched; .*MULTI_GPU"):
        start_accelerator(TrainConfig(store="s", out=str(tmp_path), wandb="off", mesh=MeshConfig(feature=2)))


def test_torch_waits_longer_than_the_watchdog():
    assert longest_wait(5, bounded=False).total_seconds() == 65
    assert longest_wait(6000, bounded=False).total_seconds() == 6600
    assert longest_wait(None, bounded=False).days == longest_wait(5, bounded=True).days == 365


def _alone(mesh: Mesh) -> str:
    """Rank 0 waits for rank 1, which sees to other things until rank 0 has given up."""
    talk = mesh.aside()
    wait_for(timedelta(seconds=0.5), [*mesh.groups(), None])
    said = ""
    if mesh.world.rank == 0:
        try:
            mesh.feature.sum(torch.zeros(1))
        except RuntimeError as error:
            said = str(error)
    dist.barrier(talk)
    return said


def test_every_group_of_the_mesh_waits_as_long_as_it_is_told():
    waited, _ = run_on_mesh(_alone, (1, 2))
    assert "Timed out waiting 500ms" in waited
