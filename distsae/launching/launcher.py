"""One `accelerate launch` under a supervisor: `python -m distsae.launching.launcher LIFELINE ARGUMENTS...`.

`accelerate launch` makes any failure a 1; here the exit code of the first process that failed is kept. Torch starts
the processes in sessions of their own, out of reach of a signal to the launcher's group, and its agent would send
them SIGKILL 30 seconds after it got SIGTERM itself. So the agent is kept from hearing SIGTERM and SIGINT: they ask
the processes to stop, by SIGUSR1 once a second until they have. The supervisor starts all of this with SIGUSR1
ignored, so it cannot end one that does not listen yet, and one that begins to listen hears of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

import psutil

from distsae.exit_codes import DIVERGED, DONE, FAILED, INTERRUPTED, STOPPED, WRONG_INPUT, as_code
from distsae.launching.process_tree import ProcessTree
from distsae.progress import say

__all__ = ["first_code", "main"]

_AGAIN = 1.0
"""Seconds between two requests to stop."""

_LEFT_TO_THE_AGENT = "SIGHUP,SIGQUIT"


def first_code(statuses: Sequence[int]) -> int:
    """Returns the code that speaks for a launch, given how its failed processes ended, in the order it was noticed.

    The first one speaks: the agent ends the others. But a verdict on the input or the training holds whoever noticed
    first that a process was gone, and SIGTERM is what the agent sends to the rest.
    """
    codes = [as_code(status) for status in statuses]
    for code in codes:
        if code in (WRONG_INPUT, DIVERGED):
            return code
    return next((code for code in codes if code != 128 + signal.SIGTERM), codes[0])


class _Requests:
    """What the supervisor wants: that the processes stop, or, when it is gone, that they end."""

    def __init__(self, lifeline: int) -> None:
        self.tree = ProcessTree()
        self.stop = threading.Event()
        self.abandoned = False
        self._lifeline = lifeline

    def listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear)
        for task in (self._pass_on, self._watch):
            threading.Thread(target=task, daemon=True).start()

    def _hear(self, number: int, _: FrameType | None) -> None:
        if self.abandoned:
            raise SystemExit(FAILED)
        self.stop.set()

    def _pass_on(self) -> None:
        self.stop.wait()
        while True:
            for process in self.tree.children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGUSR1)
            time.sleep(_AGAIN)

    def _watch(self) -> None:
        os.read(self._lifeline, 1)  # the other end closes when the supervisor ends, however it does
        self.abandoned = True
        # The main thread may be starting processes; it ends when it hears of theirs, and looks for the last ones.
        os.kill(os.getpid(), signal.SIGTERM)
        while True:
            self.tree.kill()
            time.sleep(0.1)


def main(argv: Sequence[str]) -> int:
    """Launches, and returns the exit code of the launch.

    Args:
        argv: the file descriptor of a pipe whose other end the supervisor alone has; arguments of `accelerate launch`.
    """
    lifeline, *arguments = argv
    os.set_inheritable(int(lifeline), False)
    requests = _Requests(int(lifeline))
    requests.listen()
    try:
        return _launched(arguments, requests)
    finally:
        if requests.abandoned:
            requests.tree.end()


def _launched(arguments: list[str], requests: _Requests) -> int:
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    parsed = launch_command_parser().parse_args(arguments)
    parsed.quiet = False  # it would make every code a 1
    parsed.signals_to_handle = _LEFT_TO_THE_AGENT
    if requests.stop.is_set():
        return STOPPED
    try:
        launch_command(parsed)
    except ChildFailedError as error:
        failures = sorted(error.failures.items(), key=lambda item: item[1].timestamp)
        code = first_code([failure.exitcode for _, failure in failures])
        if code not in (STOPPED, INTERRUPTED):
            ends = (f"rank {rank} (process {failure.pid}) {_ending(failure.exitcode)}" for rank, failure in failures)
            say(f"supervise: {', '.join(ends)}")
        return code
    except subprocess.CalledProcessError as error:
        return as_code(error.returncode)
    except (ValueError, FileNotFoundError) as error:  # what accelerate makes of arguments that do not fit
        say(f"distsae: error: accelerate launch: {' '.join(str(error).split())}")
        return WRONG_INPUT
    return DONE


def _ending(status: int) -> str:
    return f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
