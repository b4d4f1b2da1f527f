"""All ranks learn of a signal at the same step, whichever of them got it."""

from __future__ import annotations

import os
import signal

import pytest

from distsae.exit_codes import STOPPED
from distsae.parallel import Mesh
from distsae.training.guards import stopping
from distsae.training.guards.stopping import StopVote
from tests.distributed.processes import run_on_mesh


def _send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_what_comes_before_a_step_ends_behind_it(number, capsys, monkeypatch):
    monkeypatch.setattr(stopping, "_PATIENCE", 600.0)
    before = signal.getsignal(number)
    with StopVote() as stop:
        stop.open_vote()
        assert stop.outcome() is None
        _send(number)
        _send(number)  # launchers pass on what the whole group got
        stop.open_vote()
        assert stop.outcome() is number
    assert signal.getsignal(number) is before
    again = "; again to end at once, without a checkpoint" if number is signal.SIGINT else ""
    assert capsys.readouterr().err == f"{number.name}: stopping after this step, behind a checkpoint{again}\n"


def test_what_comes_in_a_step_waits_for_the_next():
    with StopVote() as stop:
        stop.open_vote()
        _send(signal.SIGUSR1)
        assert stop.outcome() is None
        stop.open_vote()
        assert stop.outcome() is signal.SIGUSR1


def test_a_second_interrupt_ends_at_once(monkeypatch):
    monkeypatch.setattr(stopping, "_PATIENCE", -1.0)
    with StopVote() as stop, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        stop.open_vote()
        _send(signal.SIGINT)
        _send(signal.SIGTERM)
        _send(signal.SIGINT)
        pytest.fail("went on")


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
def test_who_waits_for_rows_ends_at_once(number, raised, early, capsys):
    with pytest.raises(raised) as caught, StopVote() as stop:  # noqa: PT012
        stop.open_vote()
        if early:
            _send(number)
        with stop.at_once("waiting for rows"):
            _send(number)
            pytest.fail("went on")
    assert raised is KeyboardInterrupt or caught.value.code == STOPPED
    said = capsys.readouterr().err
    assert said == f"stopped by {number.name} while waiting for rows; the same command goes on\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_who_has_not_begun_ends_at_once(number, capsys):
    with pytest.raises(SystemExit) as caught, StopVote():  # noqa: PT012
        _send(number)
        pytest.fail("went on")
    assert caught.value.code == STOPPED
    assert capsys.readouterr().err == f"stopped by {number.name} while starting; the same command goes on\n"


def test_who_has_something_to_lose_waits_on():
    with StopVote() as stop:
        with stop.at_once("waiting for rows", possible=False):
            _send(signal.SIGTERM)
        stop.open_vote()
        assert stop.outcome() is signal.SIGTERM


def _asked_at(mesh: Mesh, who: int, when: int) -> list[int]:
    """Lets rank `who` have SIGTERM within step `when`; returns the outcomes of eight steps."""
    outcomes = []
    with StopVote() as stop:
        stop.group = mesh.aside()
        for step in range(8):
            stop.open_vote()
            if mesh.world.rank == who and step == when:
                _send(signal.SIGTERM)
            outcomes.append(stop.outcome() or 0)
    return outcomes


@pytest.mark.parametrize("who", [0, 1])
def test_every_rank_hears_of_it_at_the_same_step(who):
    for outcomes in run_on_mesh(_asked_at, (2, 1), who, 3):
        assert outcomes == [0] * 4 + [signal.SIGTERM] * 4
