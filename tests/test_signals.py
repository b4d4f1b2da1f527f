import os
import signal
import threading

import pytest

from distsae.signals import listening, stop_signals

NUMBERS = (signal.SIGTERM, signal.SIGUSR1)


def test_handles_signals_until_the_block_ends_and_restores_the_old_handlers():
    handled = []
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with listening(NUMBERS, handled.append) as listened:
            assert listened == [*NUMBERS]
            for number in (*NUMBERS, signal.SIGUSR1):
                os.kill(os.getpid(), number)
        assert handled == [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR1]
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_handler_may_raise_and_the_old_handlers_are_restored():
    before = [signal.getsignal(number) for number in NUMBERS]

    def refuse(number):
        raise SystemExit(128 + number)

    with pytest.raises(SystemExit), listening(NUMBERS, refuse):
        os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_nothing_is_handled_in_another_thread():
    before, found = [signal.getsignal(number) for number in NUMBERS], []

    def work():
        with listening(NUMBERS, found.append) as listened:
            found.append(listened)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [[]]
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_an_ignored_ctrl_c_stays_ignored_and_an_ignored_usr1_does_not():
    before = [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)]
    try:
        assert stop_signals() == [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT]
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        assert stop_signals() == [signal.SIGTERM, signal.SIGUSR1]
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGHUP, signal.SIGUSR1), before, strict=True):
            signal.signal(number, handler)
