"""The number of processes must fill the mesh; all collectives have the time limit that was set."""

import os
import subprocess
import sys
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from distsae.errors import WrongInput
from distsae.parallel import Mesh, MeshConfig
from distsae.training import TrainConfig
from distsae.training.guards.accelerator import (
    check_processes,
    longest_wait,
    require_gpus,
    set_timeout,
    start_accelerator,
)
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


@pytest.mark.parametrize(
    ("name", "value"),
    [("ACCELERATE_USE_CPU", "maybe"), ("ACCELERATE_TORCH_DEVICE", "abacus")],
)
def test_variables_that_accelerate_cannot_read_are_one_line(name, value, tmp_path):
    script = (
        "import sys\nfrom distsae.errors import WrongInput\nfrom distsae.training import TrainConfig\n"
        "from distsae.training.guards.accelerator import start_accelerator\n"
        "try: start_accelerator(TrainConfig(store='s', out=sys.argv[1], wandb='off'))\n"
        "except WrongInput as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, name: value},
    )
    assert "accelerate must be able to start; got " in done.stdout, done.stderr
    assert f"{name}={value}" in done.stdout


def test_processes_that_accelerate_does_not_see_are_an_error(monkeypatch, tmp_path):
    """`accelerate launch` with `use_cpu` alone starts processes that do not connect to each other."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(WrongInput, match=r"accelerate must see all 2 launched processes; got 1; .*MULTI_GPU"):
        start_accelerator(TrainConfig(store="s", out=str(tmp_path), wandb="off", mesh=MeshConfig(feature=2)))


def test_two_processes_on_one_gpu_are_refused():
    of_launcher = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "8"}
    require_gpus(8, of_launcher)
    require_gpus(1, {})
    require_gpus(1, {"LOCAL_WORLD_SIZE": "8"})  # each may have a GPU of its own
    with pytest.raises(
        WrongInput, match=r"`LOCAL_WORLD_SIZE` \(=8\), must have a GPU each; got 4; start at most 4 on a"
    ):
        require_gpus(4, of_launcher)


@pytest.mark.parametrize("asked", [{}, {"ACCELERATE_USE_CPU": "true"}, {"ACCELERATE_TORCH_DEVICE": "cpu"}])
def test_gpus_are_counted_before_accelerate_starts(monkeypatch, tmp_path, asked):
    environment = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none", **asked}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    words = "must have a GPU each; got 1" if not asked else "accelerate must see all 2 launched processes; got 1"
    with pytest.raises(WrongInput, match=words):
        start_accelerator(TrainConfig(store="s", out=str(tmp_path), wandb="off", mesh=MeshConfig(feature=2)))


def test_torch_waits_longer_than_the_watchdog():
    assert longest_wait(5, bounded=False).total_seconds() == 65
    assert longest_wait(6000, bounded=False).total_seconds() == 6600
    assert longest_wait(None, bounded=False).days == longest_wait(5, bounded=True).days == 365


def _timed_out(mesh: Mesh) -> str:
    """Returns the error of rank 0, which waits for rank 1 in a collective; rank 1 joins only the barrier after it."""
    unlimited = mesh.aside()
    set_timeout(timedelta(seconds=0.5), [*mesh.groups(), None])
    text = ""
    if mesh.world.rank == 0:
        try:
            mesh.feature.sum(torch.zeros(1))
        except RuntimeError as error:
            text = str(error)
    dist.barrier(unlimited)
    return text


def test_a_collective_ends_after_the_time_limit():
    text, _ = run_on_mesh(_timed_out, (1, 2))
    assert "Timed out waiting 500ms" in text
