"""Processes and mesh must fit before anything is set up."""

import pytest

from distsae.errors import WrongInput
from distsae.parallel import MeshConfig
from distsae.training import TrainConfig
from distsae.training.launch import check_processes, start_accelerator


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
