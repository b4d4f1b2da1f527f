"""A process that waits in torch for a main machine that never answers, and is asked to stop."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from distsae.exit_codes import INTERRUPTED, STOPPED
from distsae.training.guards import StopVote
from distsae.training.guards.unheard_signal import ended_if_unheard

WAITING = """
import sys, torch.distributed as dist
from distsae.training.guards import StopVote
from distsae.training.guards.unheard_signal import ended_if_unheard
with StopVote(), ended_if_unheard(0.5):
    print("waiting", flush=True)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{sys.argv[1]}", rank=1, world_size=2)
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, STOPPED), (signal.SIGUSR1, STOPPED), (signal.SIGINT, INTERRUPTED)]
)
def test_a_signal_ends_a_process_that_waits_in_torch(number, code):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen, so torch tries again for half an hour
        port = str(nobody.getsockname()[1])
        process = subprocess.Popen(
            [sys.executable, "-c", WAITING, port], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "waiting\n"
        time.sleep(1)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"stopped by {number.name} while" in said
    assert "Traceback" not in said


def test_a_handler_that_ends_the_block_is_left_alone(capsys):
    before = signal.set_wakeup_fd(-1)
    with pytest.raises(SystemExit), StopVote(), ended_if_unheard(60):
        os.kill(os.getpid(), signal.SIGTERM)  # its handler raises before the next line
    assert "while starting" in capsys.readouterr().err
    assert signal.set_wakeup_fd(before) == -1


def test_other_signals_and_other_threads_change_nothing():
    with ended_if_unheard(0):
        signal.raise_signal(signal.SIGCHLD)
        signal.raise_signal(signal.SIGWINCH)
    entered = []

    def enter():
        with ended_if_unheard(0):
            entered.append(True)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [True]
