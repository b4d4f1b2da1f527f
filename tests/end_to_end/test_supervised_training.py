"""`distsae train` under `distsae supervise` and under the batch script for SLURM: stopped, killed, and finished."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from distsae.checkpoint.names import checkpoints
from tests.end_to_end.hold import Hold
from tests.end_to_end.runs import arguments, metrics
from tests.end_to_end.slurm import Cluster
from tests.end_to_end.supervising import SECONDS, Supervised

STEPS, HELD = 60, 30


def _has_checkpoint(out: Path) -> bool:
    return bool(checkpoints(out / "checkpoints"))


def _is_whole(out: Path) -> bool:
    return (out / "sae" / "config.json").is_file() and [line["step"] for line in metrics(out)] == list(
        range(1, STEPS + 1)
    )


def test_a_stopped_training_goes_on_with_the_same_command(tiny_store, tmp_path):
    out = tmp_path / "run"
    command = ["-m", "distsae", *arguments(tiny_store, out, steps=STEPS, **{"checkpoint.every": 5})]
    hold = Hold(tmp_path, HELD)
    run = Supervised(tmp_path, command, environment=hold.environment)
    try:
        run.until(lambda: _has_checkpoint(out))
        run.process.send_signal(signal.SIGUSR1)
        assert run.code() == 75, run.said
        assert "SIGUSR1: stopping after this step, with a checkpoint" in run.said
        assert not (out / "sae").exists()
        before = run.said
        hold.release()
        run = Supervised(tmp_path, command)
        assert run.code() == 0, run.said
    finally:
        run.kill()
    assert "resumed from" in run.said[len(before) :]
    assert _is_whole(out)


@pytest.fixture
def cluster(tmp_path):
    """Makes clusters and ends the batch scripts that still run."""
    begun: list[subprocess.Popen] = []

    class _Begun(Cluster):
        def start(self, arguments: list[str], **environment: str) -> subprocess.Popen[bytes]:
            begun.append(super().start(arguments, **environment))
            return begun[-1]

    yield lambda nodes, processes: _Begun(tmp_path, nodes, processes)
    for script in begun:
        if script.poll() is None:
            for process in psutil.Process(script.pid).children(recursive=True):
                process.kill()
            script.kill()
            script.wait()


def _until(true, cluster, script):
    deadline = time.monotonic() + SECONDS
    while not true():
        assert script.poll() is None, cluster.said
        assert time.monotonic() < deadline, cluster.said
        time.sleep(0.01)


def _trainers(script: subprocess.Popen) -> list[psutil.Process]:
    """The training processes of a job, by rank."""
    found = {}
    for process in psutil.Process(script.pid).children(recursive=True):
        try:
            environment, command = process.environ(), process.cmdline()
        except psutil.NoSuchProcess:
            continue
        if "train" in command and "RANK" in environment and "supervise" not in command:
            found[int(environment["RANK"])] = process
    return [found[rank] for rank in sorted(found)]


@pytest.mark.parametrize(
    ("number", "nodes", "processes"),
    [
        pytest.param(signal.SIGUSR1, 2, 1, id="USR1"),
        pytest.param(signal.SIGTERM, 1, 2, id="TERM", marks=pytest.mark.heavy),
    ],
)
def test_a_batch_job_whose_time_is_up_is_requeued_and_finishes(number, nodes, processes, cluster, tiny_store, tmp_path):
    out = tmp_path / "run"
    command = arguments(tiny_store, out, steps=STEPS, **{"checkpoint.every": 5})[1:]
    job, hold = cluster(nodes, processes), Hold(tmp_path, HELD)
    script = job.start(command, **hold.environment)
    _until(lambda: _has_checkpoint(out), job, script)
    script.send_signal(number)
    assert script.wait(SECONDS) == 0, job.said
    assert job.requeued == 1
    assert not (out / "sae").exists()
    assert job.said.count("asking the training to stop") == nodes
    hold.release()
    script = job.start(command, SLURM_RESTART_COUNT="1")
    assert script.wait(SECONDS) == 0, job.said
    assert job.requeued == 1
    assert _is_whole(out)
    ports = job.ports()
    assert len(ports) == len(set(ports)) == 2


def test_a_cancelled_job_stops_and_stays_away(cluster, tiny_store, tmp_path):
    out = tmp_path / "run"
    job = cluster(1, 2)
    command = arguments(tiny_store, out, steps=STEPS, **{"checkpoint.every": 5})[1:]
    script = job.start(command, **Hold(tmp_path, HELD).environment)
    _until(lambda: _has_checkpoint(out), job, script)
    (tmp_path / "state").write_text("COMPLETING")  # what SLURM says of a job that it is cancelling
    script.send_signal(signal.SIGTERM)
    assert script.wait(SECONDS) == 75, job.said
    assert job.requeued == 0


@pytest.mark.heavy
def test_a_batch_job_is_started_again_on_all_nodes_after_a_crash_on_one(cluster, tiny_store, tmp_path):
    out = tmp_path / "run"
    job, hold = cluster(2, 1), Hold(tmp_path, HELD)
    command = arguments(tiny_store, out, steps=STEPS, **{"checkpoint.every": 5})[1:]
    script = job.start(command, **hold.environment)
    _until(lambda: _has_checkpoint(out), job, script)
    _trainers(script)[1].kill()
    hold.release()
    assert script.wait(SECONDS) == 0, job.said
    assert "try 1 of 4 ended with 137: starting again" in job.said
    assert _is_whole(out)
    assert job.requeued == 0
    ports = job.ports()
    assert len(ports) == len(set(ports)) == 2


@pytest.mark.heavy
def test_a_batch_job_with_wrong_input_ends_with_2_and_what_crashes_is_given_up(cluster, tiny_store, tmp_path):
    job = cluster(1, 2)
    wrong = job.start(arguments(tiny_store, tmp_path / "run", **{"mesh.feature": 3})[1:])
    assert wrong.wait(SECONDS) == 2, job.said
    assert len(job.ports()) == 1
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").mkdir()  # no file, whatever is tried
    crashing = job.start(arguments(tiny_store, tmp_path / "run")[1:], RESTARTS="1")
    assert crashing.wait(SECONDS) == 1, job.said
    assert "try 2 of 2 ended with 1: given up" in job.said
    assert len(job.ports()) == 3
