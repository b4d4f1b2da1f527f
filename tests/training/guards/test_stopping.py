"""All ranks stop after the same step, whichever of them receives the signal."""

from __future__ import annotations

import os
import signal

import pytest

from distsae.exit_codes import STOPPED
from distsae.parallel import Mesh
from distsae.training.guards.stopping import StopVote, Trouble
from tests.distributed.processes import run_on_mesh


def _send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT])
def test_a_signal_before_a_step_stops_after_that_step(number, capsys):
    before = signal.getsignal(number)
    with StopVote(patience=600.0) as stop:
        stop.open_vote()
        assert stop.outcome() is None
        _send(number)
        _send(number)  # launchers pass on a signal that the whole process group has received
        stop.open_vote()
        assert stop.outcome() is number
    assert signal.getsignal(number) is before
    again = "; again to end at once, without a checkpoint" if number is signal.SIGINT else ""
    assert capsys.readouterr().err == f"{number.name}: stopping after this step, with a checkpoint{again}\n"


def test_a_signal_within_a_step_stops_after_the_next_one():
    with StopVote() as stop:
        stop.open_vote()
        _send(signal.SIGUSR1)
        assert stop.outcome() is None
        stop.open_vote()
        assert stop.outcome() is signal.SIGUSR1


def test_a_second_interrupt_ends_at_once():
    with StopVote(patience=-1.0) as stop, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        stop.open_vote()
        _send(signal.SIGINT)
        _send(signal.SIGTERM)
        _send(signal.SIGINT)
        pytest.fail("continued")


def test_an_interrupt_that_is_ignored_stays_ignored_and_usr1_does_not():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with StopVote() as stop:
            _send(signal.SIGINT)
            stop.open_vote()
            assert stop.outcome() is None
            _send(signal.SIGUSR1)
            stop.open_vote()
            assert stop.outcome() is signal.SIGUSR1
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGUSR1, before[1])


@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGTERM, SystemExit), (signal.SIGUSR1, SystemExit), (signal.SIGINT, KeyboardInterrupt)],
)
@pytest.mark.parametrize("early", [False, True])
def test_a_process_that_waits_for_rows_ends_at_once(number, raised, early, capsys):
    with pytest.raises(raised) as caught, StopVote() as stop:  # noqa: PT012
        stop.open_vote()
        if early:
            _send(number)
        with stop.interruptible("waiting for rows"):
            _send(number)
            pytest.fail("continued")
    assert raised is KeyboardInterrupt or caught.value.code == STOPPED
    printed = capsys.readouterr().err
    assert printed == f"stopped by {number.name} while waiting for rows; the same command continues\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_process_before_its_first_step_ends_at_once(number, capsys):
    with pytest.raises(SystemExit) as caught, StopVote():  # noqa: PT012
        _send(number)
        pytest.fail("continued")
    assert caught.value.code == STOPPED
    assert capsys.readouterr().err == f"stopped by {number.name} while starting; the same command continues\n"


def test_a_process_that_would_lose_steps_does_not_end_at_once():
    with StopVote() as stop:
        with stop.interruptible("waiting for rows", safe=lambda: False):
            _send(signal.SIGTERM)
        stop.open_vote()
        assert stop.outcome() is signal.SIGTERM


def test_a_process_ends_at_once_if_its_checkpoint_has_reached_the_disk_meanwhile():
    saved = []
    with StopVote() as stop, pytest.raises(SystemExit), stop.interruptible("waiting", safe=lambda: bool(saved)):  # noqa: PT012
        saved.append(1)
        _send(signal.SIGTERM)
        pytest.fail("went on")


def _outcomes(mesh: Mesh, signalled: int, at_step: int) -> list[int]:
    """Sends SIGTERM to rank `signalled` within step `at_step`; returns the outcomes of eight steps."""
    outcomes = []
    with StopVote() as stop:
        stop.group = mesh.aside()
        for step in range(8):
            stop.open_vote()
            if mesh.world.rank == signalled and step == at_step:
                _send(signal.SIGTERM)
            outcomes.append(stop.outcome() or 0)
    return outcomes


@pytest.mark.parametrize("signalled", [0, 1])
def test_all_ranks_stop_after_the_same_step(signalled):
    for outcomes in run_on_mesh(_outcomes, (2, 1), signalled, 3):
        assert outcomes == [0] * 4 + [signal.SIGTERM] * 4


def _troubles(mesh: Mesh, folder: int, rows: int) -> list[Trouble]:
    """Votes three times: nothing, a folder lost on one rank, and rows lost on another as well."""
    with StopVote() as stop:
        stop.group = mesh.aside()
        found = []
        for step in range(3):
            trouble = Trouble.FOLDER if step and mesh.data.rank == folder else Trouble.NONE
            stop.open_vote(Trouble.ROWS if step == 2 and mesh.data.rank == rows else trouble)
            found.append(stop.trouble())
            assert stop.outcome() is None
    return found


@pytest.mark.parametrize(("folder", "rows"), [(0, 1), (1, 0)])
def test_all_ranks_hear_of_the_trouble_of_one(folder, rows):
    for found in run_on_mesh(_troubles, (2, 1), folder, rows):
        assert found == [Trouble.NONE, Trouble.FOLDER, Trouble.ROWS]
