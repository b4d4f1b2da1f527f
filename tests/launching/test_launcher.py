"""The exit code of a launch is that of the process that failed first; `accelerate launch` itself always returns 1."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from distsae.launching.launcher import _connection_in_words, first_code
from tests.end_to_end.launching import ENVIRONMENT, ROOT

KILLED, ENDED = -signal.SIGKILL, -signal.SIGTERM


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([75, 75], 75),
        ([75, ENDED], 75),  # the agent's SIGTERM
        ([ENDED, 75], 75),
        ([KILLED, 1], 137),
        ([1, KILLED], 1),
        ([1, 75], 1),  # the agent asked the second to stop, because the first had crashed
        ([ENDED, KILLED], 137),
        ([ENDED, ENDED], 143),
        ([1, 3], 3),  # the second found that the loss was not finite
        ([2, 1], 2),
    ],
)
def test_the_exit_code_of_a_launch(statuses, code):
    assert first_code(statuses) == code


def _launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    inherited, lifeline = os.pipe()
    try:
        return subprocess.run(
            [sys.executable, "-m", "distsae.launching.launcher", str(inherited), *arguments],
            pass_fds=(inherited,),
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            timeout=300,
        )
    finally:
        os.close(inherited)
        os.close(lifeline)


def test_arguments_that_accelerate_refuses_are_wrong_input(tmp_path):
    done = _launch("--config_file", str(tmp_path / "nowhere.yaml"), "script.py")
    assert done.returncode == 2
    assert done.stderr.count("distsae: error: accelerate launch: ") == 1
    assert "nowhere.yaml" in done.stderr


def test_a_port_that_is_taken_is_one_line():
    """The main of several machines; on a single one accelerate takes another port itself."""
    config = str(ROOT / "cluster_configs" / "cpu_2.yaml")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        machines = ("--num_machines", "2", "--machine_rank", "0", "--main_process_ip", "127.0.0.1")
        done = _launch("--config_file", config, *machines, "--main_process_port", port, "script.py")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"accelerate launch: `main_process_port` (={port}) must be free on the main machine; got one" in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "The server socket has failed to listen on any local network address. port: 29500, useIpv6: false, code: "
            "-98, name: EADDRINUSE, message: address already in use",
            "`main_process_port` (=29500) must be free",
        ),
        (
            "The client socket has timed out\nafter 60000ms",
            "The client socket has timed out after 60000ms; check --main",
        ),
    ],
)
def test_what_torch_says_of_a_port(text, words):
    assert _connection_in_words(text).startswith(words)


@pytest.mark.parametrize("end", ["sys.exit(9)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_the_exit_code_of_a_single_process_is_kept(end, tmp_path):
    """With `--num_processes 1` accelerate starts it without torch, so there is no agent."""
    script = tmp_path / "script.py"
    script.write_text(f"import os, signal, sys\n{end}\n")
    config = str(ROOT / "cluster_configs" / "cpu_2.yaml")
    done = _launch("--cpu", "--config_file", config, "--num_processes", "1", "--quiet", str(script))
    assert done.returncode == (9 if "exit" in end else 137), done.stderr


_FLOODED = """
import os, sys, threading
from distsae.launching.launcher import _Requests

requests = _Requests(os.pipe()[0])
requests.start()
print("ready", flush=True)
end = threading.Thread(target=sys.stdin.read)
end.start()
while end.is_alive():
    pass
print(bool(requests.stop))
"""


def test_a_signal_inside_the_handler_of_another_one_does_not_block_it():
    """A scheduler sends SIGUSR1 and SIGTERM at once, and Ctrl-C reaches the launcher twice."""
    process = subprocess.Popen(
        [sys.executable, "-c", _FLOODED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for _ in range(50000):
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
    try:
        assert process.communicate(timeout=30) == ("True\n", None)
    finally:
        process.kill()
