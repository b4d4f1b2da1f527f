"""The launcher gets the options that fit this machine, and several processes on a CPU the variables they need."""

import os

import pytest

from distsae.recipes.local_launch import launch_environment, launch_words


@pytest.mark.parametrize(("gpu", "processes"), [(False, 1), (False, 2), (True, 1), (True, 8)])
def test_options_of_the_launcher(monkeypatch, gpu, processes):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    words = launch_words(processes)
    assert words[words.index("--num_processes") + 1] == str(processes)
    assert words[words.index("--num_cpu_threads_per_process") + 1] == "3"
    assert ("--multi_gpu" in words) == (gpu and processes > 1)
    assert ("--cpu" in words) == (not gpu and processes == 1)
    assert any(word.endswith("cpu_2.yaml") for word in words) == (not gpu and processes > 1)


def test_threads_are_shared_by_default(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    words = launch_words(2)
    assert words[words.index("--num_cpu_threads_per_process") + 1] == "4"


def test_a_config_file_of_accelerate_is_passed_on():
    assert list(launch_words(4, "mine.yaml")) == ["--config_file", "mine.yaml", "--num_processes", "4"]


def test_variables_are_set_for_the_block_alone(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    with launch_environment(2):
        assert os.environ["ACCELERATE_USE_CPU"] == "true"
    assert os.environ["ACCELERATE_USE_CPU"] == "false"
    assert "GLOO_SOCKET_IFNAME" not in os.environ
    with launch_environment(1):
        assert os.environ["ACCELERATE_USE_CPU"] == "false"
    with launch_environment(1, machines=2):
        assert os.environ["ACCELERATE_USE_CPU"] == "true"
        assert "GLOO_SOCKET_IFNAME" not in os.environ  # the other machines are not behind the loopback
