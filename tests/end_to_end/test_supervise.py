"""`distsae supervise` on real `accelerate launch`: what becomes of signals, exit codes and crashes."""

from __future__ import annotations

import signal

import psutil
import pytest

from tests.end_to_end.supervising import Supervised, gone, send


@pytest.fixture
def supervised(tmp_path):
    """Supervises scripts in the test's folder and leaves none of their processes."""
    begun = []

    def begin(body: str, *options: str) -> Supervised:
        begun.append(Supervised.script(tmp_path, body, *options))
        return begun[-1]

    yield begin
    for one in begun:
        one.kill()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGUSR1, 75), (signal.SIGTERM, 75), (signal.SIGINT, 130)], ids=lambda value: str(value)
)
def test_a_signal_stops_all_processes_and_none_is_left(number, code, supervised):
    run = supervised("until_asked(75)\n")
    workers = run.started()
    launcher = psutil.Process(run.process.pid).children()
    run.process.send_signal(number)
    assert run.code() == code
    assert not any(process.is_running() for process in workers + launcher)
    assert run.said.count(f"supervise: {number.name}: asking the training to stop") == 1
    assert "try 1" not in run.said


def test_a_signal_that_comes_before_anybody_listens_is_not_lost(supervised):
    run = supervised('started()\nwhile not (here / "go").exists(): time.sleep(0.02)\nuntil_asked(75)\n')
    run.started()
    run.process.send_signal(signal.SIGUSR1)
    run.until(lambda: "asking the training" in run.said)
    (run.folder / "go").touch()
    assert run.code() == 75


def test_a_scheduler_that_signals_every_process_gets_75(supervised):
    """As SLURM does: supervisor, launcher and workers all get it, and a worker may take its time."""
    run = supervised(
        "signal.signal(signal.SIGTERM, lambda *_: tell('told-' + rank))\nstarted()\n"
        "while not (here / ('told-' + rank)).exists(): time.sleep(0.02)\n"
        "until_asked(75)\n"
    )
    run.started()
    everyone = [psutil.Process(run.process.pid), *psutil.Process(run.process.pid).children(recursive=True)]
    for number in (signal.SIGUSR1, signal.SIGTERM):
        send(everyone, number)
    assert run.code() == 75


def test_a_killed_process_is_started_again_on_another_port(supervised):
    run = supervised(
        "started()\n"
        'if attempt == 1 and rank == "1":\n'
        '    while not (here / "pid-1-0").exists(): time.sleep(0.02)\n'
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "while attempt == 1: time.sleep(1)\n",
        "--pause=0.1",
    )
    assert run.code() == 0, run.said
    assert "supervise: rank 1 (process " in run.said
    assert "supervise: try 1 of 6 ended by SIGKILL after " in run.said
    assert "starting again in 0.1 s" in run.said
    first, second = ((run.folder / f"port-{attempt}-0").read_text() for attempt in (1, 2))
    assert first != second
    assert not (run.folder / "pid-3-0").exists()


def test_what_crashes_every_time_is_given_up_with_its_code(supervised):
    run = supervised("started()\nsys.exit(7)\n", "--restarts=1", "--pause=0")
    assert run.code() == 7
    assert "try 1 of 2 ended with 7" in run.said
    assert "try 2 of 2 ended with 7" in run.said
    assert "no restart is left" in run.said
    assert not (run.folder / "pid-3-0").exists()


@pytest.mark.parametrize("code", [2, 3])
def test_a_verdict_is_passed_on_and_not_tried_again(code, supervised):
    """One process says so; the other one has only seen its neighbour go."""
    run = supervised(f'started()\nif rank == "1": sys.exit({code})\ntime.sleep(600)\n')
    assert run.code() == code
    assert not (run.folder / "pid-2-0").exists()


def test_a_signal_between_two_tries_ends_it(supervised):
    run = supervised("started()\nsys.exit(1)\n", "--pause=3600")
    run.until(lambda: "starting again in 3600 s" in run.said)
    run.process.send_signal(signal.SIGTERM)
    assert run.code() == 75
    assert not (run.folder / "pid-2-0").exists()


@pytest.mark.parametrize(("end", "code"), [(9, 75), (0, 0)])
def test_what_ends_in_its_own_way_when_it_was_to_stop(end, code, supervised):
    """A crash is not tried again; and who was done anyway is done."""
    run = supervised(f"until_asked({end})\n")
    run.started()
    run.process.send_signal(signal.SIGUSR1)
    assert run.code() == code
    assert ("ended with 9 after " in run.said) == (end == 9)
    assert ("when it was asked to stop" in run.said) == (end == 9)
    assert not (run.folder / "pid-2-0").exists()


def test_a_second_interrupt_kills(supervised):
    run = supervised(
        "for number in (signal.SIGUSR1, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)\n"
        "started()\nwhile True: time.sleep(1)\n"
    )
    workers = run.started()
    run.process.send_signal(signal.SIGINT)
    run.until(lambda: "again to kill it" in run.said)
    while not gone(workers, 0.2):  # one that follows at once is taken for the same
        run.process.send_signal(signal.SIGINT)
    assert run.code() == 130
    assert not any(process.is_running() for process in workers)


def test_what_hears_no_signal_is_killed_after_the_grace_period(supervised):
    """Python runs no handler while its main thread waits for a GPU, which waits for a rank that is gone."""
    run = supervised(
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])\n"
        "started()\nwhile True: time.sleep(1)\n",
        "--grace=2",
    )
    workers = run.started()
    run.process.send_signal(signal.SIGTERM)
    assert run.code() == 75, run.said
    assert not any(process.is_running() for process in workers)
    assert "supervise: the training has not stopped 2 s after it was asked to: killing it" in run.said
    assert "when it was asked to stop; the same command continues from the newest checkpoint" in run.said
    assert not (run.folder / "pid-2-0").exists()


def test_nothing_survives_a_killed_supervisor(supervised):
    run = supervised(
        "for number in (signal.SIGUSR1, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)\n"
        "started()\nwhile True: time.sleep(1)\n"
    )
    workers = run.started()
    launcher = psutil.Process(run.process.pid).children()
    run.process.kill()
    assert gone(workers + launcher)


def test_workers_of_a_killed_launcher_are_gone_before_the_next_try(supervised):
    """They ignore SIGTERM, and so must be killed; those of the second try look for them."""
    run = supervised(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nstarted()\n"
        "while attempt == 1: time.sleep(1)\n"
        'before = [(here / f"pid-1-{other}").read_text() for other in (0, 1)]\n'
        'sys.exit(9 if any(pathlib.Path("/proc", pid).exists() for pid in before) else 0)\n',
        "--pause=0",
        "--restarts=1",
    )
    run.started()
    (launcher,) = psutil.Process(run.process.pid).children()
    launcher.kill()
    assert run.code() == 0, run.said
    assert "try 1 of 2 ended by SIGKILL" in run.said
