"""Runs one `accelerate launch` for a supervisor: `python -m distsae.launching.launcher LIFELINE ARGUMENTS...`.

`accelerate launch` turns any failure into exit code 1; this launcher keeps the exit code of the first process that
failed. Torch starts the processes in sessions of their own, where a signal to the launcher's group does not reach them,
and its agent would send them SIGKILL 30 seconds after it received SIGTERM. So the launcher keeps SIGTERM and
SIGINT from the agent: it handles them itself and sends SIGUSR1 to the processes once a second until they have stopped.
The supervisor starts it with SIGUSR1 ignored, which the processes inherit: the signal cannot end a process that has no
handler yet, and reaches it once it has one.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from queue import SimpleQueue
from types import FrameType

import psutil

from distsae.exit_codes import DIVERGED, DONE, FAILED, INTERRUPTED, STOPPED, WRONG_INPUT, as_code
from distsae.launching.process_tree import ProcessTree
from distsae.progress import say
from distsae.standard_streams import guard_standard_streams

__all__ = ["first_code", "main"]

_REPEAT = 1.0
"""Seconds between two requests to stop."""

_SIGNALS_OF_THE_AGENT = "SIGHUP,SIGQUIT"


def first_code(statuses: Sequence[int]) -> int:
    """Returns the exit code of a launch, given the statuses of its failed processes in the order of their failures.

    It is that of the first process, because the agent ends the others with SIGTERM. `WRONG_INPUT` and `DIVERGED` have
    precedence: another process may fail first because its peer, which has such a code, is gone.
    """
    codes = [as_code(status) for status in statuses]
    for code in codes:
        if code in (WRONG_INPUT, DIVERGED):
            return code
    return next((code for code in codes if code != 128 + signal.SIGTERM), codes[0])


class _Requests:
    """Carries out the supervisor's requests: to stop the processes, and to kill them once the supervisor is gone."""

    def __init__(self, lifeline: int) -> None:
        self.tree = ProcessTree()
        self.stop = False
        self.abandoned = False
        self._lifeline = lifeline
        self._signals = SimpleQueue[int]()

    def start(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        for task in (self._forward_stop, self._watch_supervisor):
            threading.Thread(target=task, daemon=True).start()

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self.abandoned:
            raise SystemExit(FAILED)
        self.stop = True
        # Not an Event: a second signal inside `Event.set` would wait for a lock that the first one holds, for ever.
        self._signals.put(number)

    def _forward_stop(self) -> None:
        self._signals.get()
        while True:
            for process in self.tree.children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGUSR1)
            time.sleep(_REPEAT)

    def _watch_supervisor(self) -> None:
        os.read(self._lifeline, 1)  # returns when the supervisor ends in any way, because the other end then closes
        self.abandoned = True
        # The main thread may still be starting processes. The signal ends it, and it then kills the last of them.
        os.kill(os.getpid(), signal.SIGTERM)
        while True:
            self.tree.kill()
            time.sleep(0.1)


def main(argv: Sequence[str]) -> int:
    """Runs the launch and returns its exit code.

    Args:
        argv: file descriptor of a pipe whose other end only the supervisor has; then arguments of `accelerate launch`.
    """
    guard_standard_streams()
    lifeline, *arguments = argv
    os.set_inheritable(int(lifeline), False)
    requests = _Requests(int(lifeline))
    requests.start()
    try:
        return _launch(arguments, requests)
    finally:
        if requests.abandoned:
            requests.tree.end()


def _launch(arguments: list[str], requests: _Requests) -> int:
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    parsed = launch_command_parser().parse_args(arguments)
    parsed.quiet = False  # with quiet, every exit code would be 1
    parsed.signals_to_handle = _SIGNALS_OF_THE_AGENT
    if requests.stop:
        return STOPPED
    try:
        launch_command(parsed)
    except ChildFailedError as error:
        failures = sorted(error.failures.items(), key=lambda item: item[1].timestamp)
        code = first_code([failure.exitcode for _, failure in failures])
        if code not in (STOPPED, INTERRUPTED):
            endings = [f"rank {rank} (process {failure.pid}) {_ending(failure.exitcode)}" for rank, failure in failures]
            say(f"supervise: {', '.join(endings)}")
        return code
    except subprocess.CalledProcessError as error:
        return as_code(error.returncode)
    except (ConnectionError, DistError) as error:
        say(f"distsae: error: accelerate launch: {_connection_in_words(str(error))}")
        return FAILED
    except (ValueError, FileNotFoundError) as error:  # accelerate's errors for wrong arguments
        say(f"distsae: error: accelerate launch: {' '.join(str(error).split())}")
        return WRONG_INPUT
    return DONE


def _connection_in_words(text: str) -> str:
    """Returns why the launch could not open or reach the port at which the processes meet."""
    taken = re.search(r"port `?([0-9]+)`?, but another process|port: ([0-9]+).*(?:EADDRINUSE|in use)", text)
    if taken is None:
        return f"{' '.join(text.split())[:300]}; check --main_process_ip and --main_process_port"
    port = taken[1] or taken[2]
    return (
        f"`main_process_port` (={port}) must be free on the main machine; got one that another process uses; end that "
        "process, or give another --main_process_port, the same on every machine"
    )


def _ending(status: int) -> str:
    return f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
