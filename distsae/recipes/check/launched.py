"""Runs `accelerate launch` for the check: with a time limit, because what a check looks for may be a hang."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from distsae.launching.process_tree import ProcessTree, adopting
from distsae.recipes.local_launch import launch_environment, launch_words

__all__ = ["Launched", "run_launched"]

_LAUNCHERS = ("ChildFailedError", "CalledProcessError")
"""Errors of a launcher, which say that a process failed and not why."""


@dataclass(frozen=True)
class Launched:
    """What a launch left.

    Args:
        problem: why it failed: its error, or the time limit; empty if it did not fail.
        output: what it wrote to stdout.
    """

    problem: str
    output: str


def run_launched(words: Sequence[str], processes: int, seconds: float) -> Launched:
    """Runs a module in some processes on this machine; none of them is left afterwards.

    Args:
        words: name of the module, and its arguments.
        processes: number of processes.
        seconds: time limit, after which all processes are killed.
    """
    port = ("--main_process_port", "0") if processes > 1 else ()
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch_words(processes), *port, "-m", *words]
    with launch_environment(processes), adopting(), tempfile.TemporaryFile() as said:
        tree = ProcessTree()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
        try:
            output, _ = child.communicate(timeout=seconds)
            problem = "" if child.returncode == 0 else f"it ended with {child.returncode}"
        except subprocess.TimeoutExpired:
            output, problem = b"", f"it did not end within {seconds:.0f} s"
        finally:
            tree.end()
            if child.stdout is not None:
                child.stdout.close()
        said.seek(0)
        if problem and (line := _error_in(said.read().decode(errors="replace"))):
            problem += f": {line}"
    return Launched(problem, output.decode(errors="replace"))


def _error_in(text: str) -> str:
    """Returns the line that says why a launch failed: that of distsae, or else the last one with an error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    own = [line for line in lines if "distsae: error:" in line]
    errors = [line for line in lines if "Error" in line and not any(name in line for name in _LAUNCHERS)]
    return next(iter([*own[:1], *errors[-1:], *lines[-1:]]), "")[:400]
