import os
import signal
import subprocess
import sys
import threading

import pytest

from distsae.errors import CannotContinue
from distsae.producer.stopping import Stop

SIGNALS = (
    (signal.SIGTERM, SystemExit),
    (signal.SIGUSR1, SystemExit),
    (signal.SIGHUP, SystemExit),
    (signal.SIGINT, KeyboardInterrupt),
)


def _handlers():
    return [signal.getsignal(number) for number, _ in SIGNALS]


def _send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "raised"), SIGNALS)
def test_a_signal_ends_the_work_at_once_outside_of_deferred(number, raised, capsys):
    before = _handlers()
    with pytest.raises(raised) as caught, Stop(lambda: "2 of 5 units are committed"):  # noqa: PT012
        _send(number)
        pytest.fail("went on")
    assert raised is KeyboardInterrupt or caught.value.code == (75 if number is signal.SIGUSR1 else 143)
    assert _handlers() == before
    name = signal.Signals(number).name
    assert capsys.readouterr().err == f"stopped by {name}: 2 of 5 units are committed; the same command continues\n"


@pytest.mark.parametrize("error", [OSError("stale file handle"), CannotContinue("s3://a could not be read")])
def test_an_unreachable_store_does_not_change_the_exit_code(error, capsys):
    def progress():
        raise error

    with pytest.raises(SystemExit) as caught, Stop(progress):
        _send(signal.SIGTERM)
    assert caught.value.code == 143
    assert capsys.readouterr().err == "stopped by SIGTERM; the same command continues\n"


@pytest.mark.parametrize(("number", "raised"), SIGNALS)
def test_a_signal_inside_deferred_waits_for_the_next_check(number, raised):
    done = []
    with pytest.raises(raised), Stop(lambda: "") as stop:  # noqa: PT012
        with stop.deferred():
            stop.check()
            _send(number)
            done.append("went on")
            stop.check()
        pytest.fail("went on")
    assert done == ["went on"]


def test_work_that_ends_before_the_next_check_counts_as_done(capsys):
    before = _handlers()
    with Stop(lambda: "") as stop, stop.deferred():
        _send(signal.SIGTERM)
    assert capsys.readouterr().err == ""
    assert _handlers() == before


def test_other_errors_are_not_reported_as_a_stop(capsys):
    with pytest.raises(ValueError, match="work"), Stop(lambda: "") as stop, stop.deferred():  # noqa: PT012
        _send(signal.SIGTERM)
        raise ValueError("of the work")
    with pytest.raises(SystemExit), Stop(lambda: ""):
        raise SystemExit(3)
    assert capsys.readouterr().err == ""


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stop(lambda: "") as stop:
            _send(signal.SIGINT)
            stop.check()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_install_no_handlers():
    before, seen = _handlers(), []

    def work():
        with Stop(lambda: "") as stop, stop.deferred():
            stop.check()
            seen.append(_handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_second_signal_ends_the_process_immediately():
    script = (
        "import os, signal\nfrom distsae.producer.stopping import Stop\n"
        "with Stop(lambda: '') as stop, stop.deferred():\n"
        "    for word in ('first', 'second', 'third'):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        print(word, flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "first\n", "")


def test_a_request_that_a_launcher_repeats_counts_once_and_is_heard_where_it_was_ignored():
    script = (
        "import os, signal\nfrom distsae.producer.stopping import Stop\n"
        "signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n"
        "with Stop(lambda: '2 of 5') as stop:\n"
        "    with stop.deferred():\n"
        "        for word in ('first', 'second', 'third'):\n"
        "            os.kill(os.getpid(), signal.SIGUSR1)\n"
        "            print(word, flush=True)\n"
        "    stop.check()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (75, "first\nsecond\nthird\n")
    assert done.stderr == "stopped by SIGUSR1: 2 of 5; the same command continues\n"
