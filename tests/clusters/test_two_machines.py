"""Training on machines that are two: joined by a network, one of them lost, and whole again."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest

from distsae.checkpoint.names import checkpoints
from tests.clusters.machines import network, why_not
from tests.clusters.two_nodes import CHANGES, HANG, TwoNodes, trainer
from tests.end_to_end.hold import Hold
from tests.end_to_end.runs import arguments, assert_same_end

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.fixture
def machines(tmp_path):
    with network(tmp_path, "node1", "node2") as made:
        yield made


def _lost_at_step_10(machines, tmp_path, store, lose) -> tuple[Path, TwoNodes, float]:
    """Trains until both ranks are held at step 10, loses something, and waits for the first machine's launch to end."""
    out, hold = tmp_path / "run", Hold(tmp_path, before=10)
    job = TwoNodes(machines.machines, tmp_path, arguments(store, out, **CHANGES), variables=hold.environment)
    job.until(lambda: len(checkpoints(out / "checkpoints")) == 2)
    lose()
    hold.release()
    start = time.monotonic()
    assert job.code(0) == 1, job.all_said
    return out, job, time.monotonic() - start


def _goes_on(machines, tmp_path, store, out, alone) -> None:
    again = TwoNodes(machines.machines, tmp_path, arguments(store, out, **CHANGES), port=29501)
    assert again.codes() == [0, 0], again.all_said
    assert "resumed from" in again.said(0)
    assert_same_end(out, alone)


def test_a_machine_that_loses_power(machines, tiny_store, tmp_path, alone):
    """Nobody hears of it: the other machine waits for `hang_seconds`, names the rank, and the job goes on later."""
    _, second = machines.machines
    out, job, seconds = _lost_at_step_10(machines, tmp_path, tiny_store, lambda: machines.lose_power(second))
    assert seconds < 4 * HANG
    assert re.search(r"no progress for [0-9]+ s, longer than `hang_seconds`", job.said(0))
    assert re.search(r"\n  rank 1 on node2: last heartbeat [0-9]+ s ago; ", job.said(0)), job.said(0)
    assert "check the machine of rank 1 first" in job.said(0)
    machines.turn_on(second)
    _goes_on(machines, tmp_path, tiny_store, out, alone)


@pytest.mark.heavy
def test_a_cable_that_is_pulled(machines, tiny_store, tmp_path, alone):
    """Both machines live on without each other, and both must give up by themselves."""
    _, second = machines.machines
    out, job, seconds = _lost_at_step_10(machines, tmp_path, tiny_store, lambda: machines.pull_cable(second))
    assert seconds < 4 * HANG
    assert "check the machine of rank 1 first" in job.said(0)
    assert job.code(1) == 1, job.said(1)
    assert "the activity of the other ranks is unknown: the launcher's store does not answer" in job.said(1)
    machines.plug_cable(second)
    _goes_on(machines, tmp_path, tiny_store, out, alone)


@pytest.mark.heavy
def test_the_main_machine_is_lost(machines, tiny_store, tmp_path, alone):
    first, _ = machines.machines
    out, hold = tmp_path / "run", Hold(tmp_path, before=10)
    job = TwoNodes(machines.machines, tmp_path, arguments(tiny_store, out, **CHANGES), variables=hold.environment)
    job.until(lambda: len(checkpoints(out / "checkpoints")) == 2)
    machines.lose_power(first)
    hold.release()
    start = time.monotonic()
    assert job.code(1) == 1, job.all_said
    assert time.monotonic() - start < 4 * HANG
    assert "`hang_seconds`" in job.said(1) or "lost connection to another rank" in job.said(1)
    machines.turn_on(first)
    _goes_on(machines, tmp_path, tiny_store, out, alone)


@pytest.mark.heavy
def test_a_killed_process_is_said_at_once(machines, tiny_store, tmp_path, alone):
    _, second = machines.machines
    out, job, seconds = _lost_at_step_10(
        machines, tmp_path, tiny_store, lambda: trainer(second).send_signal(signal.SIGKILL)
    )
    assert seconds < HANG
    assert "lost connection to another rank" in job.said(0)
    assert job.code(1) == 137
    assert "rank 1 (process" in job.said(1)
    assert "ended by SIGKILL" in job.said(1)
    _goes_on(machines, tmp_path, tiny_store, out, alone)


@pytest.mark.heavy
def test_a_cable_that_is_soon_back(machines, tiny_store, tmp_path, alone):
    """A short break is no loss: what was sent is sent again."""
    out, hold = tmp_path / "run", Hold(tmp_path, before=10)
    job = TwoNodes(machines.machines, tmp_path, arguments(tiny_store, out, **CHANGES), variables=hold.environment)
    job.until(lambda: len(checkpoints(out / "checkpoints")) == 2)
    machines.pull_cable(machines.machines[1])
    hold.release()
    time.sleep(3)
    machines.plug_cable(machines.machines[1])
    assert job.codes() == [0, 0], job.all_said
    assert_same_end(out, alone)


@pytest.mark.heavy
def test_a_narrow_network_changes_no_bit(machines, tiny_store, tmp_path, alone):
    out = tmp_path / "run"
    for machine in machines.machines:
        machines.limit(machine, megabits=10)
    job = TwoNodes(
        machines.machines,
        tmp_path,
        arguments(tiny_store, out, **CHANGES),
        program=("-m", "accelerate.commands.launch"),
    )
    assert job.codes() == [0, 0], job.all_said
    assert_same_end(out, alone)
