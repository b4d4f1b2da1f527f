import socket
import subprocess
import sys

import pytest

from distsae.environment import check_environment, check_interface, cpu_is_asked_for, launched_processes, whole_number
from distsae.errors import WrongInput


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"WORLD_SIZE": "abc"}, r"`WORLD_SIZE` \(=abc\) must be a whole number of at least 1"),
        ({"WORLD_SIZE": "0"}, r"`WORLD_SIZE` \(=0\) must be a whole number of at least 1"),
        ({"LOCAL_RANK": ""}, r"`LOCAL_RANK` \(=\) must be a whole number of at least 0"),
        ({"RANK": "-1"}, r"`RANK` \(=-1\) must be a whole number of at least 0"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, r"`RANK` \(=2\) must be below `WORLD_SIZE` \(=2\)"),
        ({"MASTER_PORT": "99999"}, r"`MASTER_PORT` \(=99999\) must be a whole number from 1 to 65535"),
        ({"MASTER_PORT": "1.5"}, r"`MASTER_PORT` \(=1.5\) must be a whole number from 1 to 65535"),
        ({"OMP_NUM_THREADS": "x"}, r"`OMP_NUM_THREADS` \(=x\) must be a number of threads"),
        ({"OMP_NUM_THREADS": "0"}, r"`OMP_NUM_THREADS` \(=0\) must be a number of threads"),
        ({"SLURM_NTASKS": "4(x2)"}, r"`SLURM_NTASKS` \(=4\(x2\)\) must be a whole number"),
        ({"SLURM_ARRAY_TASK_ID": "9" * 40}, r"`SLURM_ARRAY_TASK_ID` \(=9+\) must be a whole number"),
    ],
)
def test_wrong_variables_are_named(environment, words):
    with pytest.raises(WrongInput, match=f"^the environment variable {words}.*; unset it, or start again"):
        check_environment(environment)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "MASTER_PORT": "29500"},
        {"OMP_NUM_THREADS": "4,2"},
        {"SLURM_ARRAY_TASK_ID": "70", "SLURM_ARRAY_TASK_MIN": "64"},
    ],
)
def test_what_launchers_set_is_right(environment):
    check_environment(environment)


def test_the_interface_of_gloo_exists():
    known = socket.if_nameindex()[0][1]
    for environment in (
        {},
        {"GLOO_SOCKET_IFNAME": ""},
        {"GLOO_SOCKET_IFNAME": known},
        {"GLOO_SOCKET_IFNAME": f"{known},{known}"},
    ):
        check_interface(environment)
    for name in ("nonexistent9", f"{known},nonexistent9"):
        with pytest.raises(
            WrongInput, match=rf"`GLOO_SOCKET_IFNAME` \(={name}\) must name a network interface of this"
        ):
            check_interface({"GLOO_SOCKET_IFNAME": name})
    with pytest.raises(WrongInput, match=r"\(`\^` and `=` are NCCL's syntax, which gloo does not know\)"):
        check_interface({"GLOO_SOCKET_IFNAME": "^lo"})


def test_numbers(monkeypatch):
    assert whole_number("RANK", 7, {}) == 7
    assert whole_number("RANK", 7, {"RANK": " 3"}) == 3
    monkeypatch.setenv("WORLD_SIZE", "6")
    assert launched_processes() == 6
    monkeypatch.delenv("WORLD_SIZE")
    assert launched_processes() == 1


@pytest.mark.parametrize(
    ("name", "value"), [("WORLD_SIZE", "abc"), ("RANK", "x"), ("LOCAL_RANK", ""), ("OMP_NUM_THREADS", "x")]
)
def test_a_wrong_variable_ends_a_command_at_once_in_one_line(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "distsae", "store", "info", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"the environment variable `{name}` (={value}) must be" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, False),
        ({"ACCELERATE_USE_CPU": "False"}, False),
        ({"ACCELERATE_USE_CPU": " True"}, True),
        ({"ACCELERATE_TORCH_DEVICE": "cuda:1"}, False),
        ({"ACCELERATE_TORCH_DEVICE": "cpu"}, True),
    ],
)
def test_accelerate_may_be_told_to_use_the_cpu(environment, asked):
    assert cpu_is_asked_for(environment) == asked
