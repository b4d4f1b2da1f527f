"""`distsae train` on two machines, as their users type it: one `accelerate launch` on each, by the multinode config."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.clusters.machines import Machine
from tests.end_to_end.launching import ROOT

MULTINODE = ROOT / "cluster_configs" / "multinode.yaml"
PATIENCE = 300.0
"""Seconds after which anything counts as hung, far beyond what it takes."""

HANG = 15
"""Seconds without progress after which a training gives up, in place of ten minutes."""

CHANGES = {"steps": 20, "checkpoint.every": 4, "hang_seconds": HANG}
"""What the trainings of these tests change of the usual one."""

_MEETING = 60
"""Seconds that a launcher waits for the others to start, in place of ten minutes."""


def environment(**changes: str) -> dict[str, str]:
    """Returns what a login shell of a node without GPUs has: nothing of launchers, and no interface named."""
    passed = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "HF_HUB_OFFLINE")
    own = {name: os.environ[name] for name in passed if name in os.environ}
    return own | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | changes


class TwoNodes:
    """One try of a training on machines, one process on each; the first machine is the main one.

    Args:
        machines: where.
        folder: for what each machine says; a later try adds to it.
        training: words behind `-m distsae`.
        program: what takes the options of `accelerate launch`.
        port: at which the processes meet.
        variables: of the environment, beside the usual ones.
    """

    def __init__(
        self,
        machines: list[Machine],
        folder: Path,
        training: list[str],
        *,
        program: tuple[str, ...] = ("-m", "distsae", "supervise", "--restarts", "0", "--"),
        port: int = 29500,
        variables: dict[str, str] | None = None,
    ) -> None:
        self._outs = [folder / f"out-{machine.name}" for machine in machines]
        self._before = [out.stat().st_size if out.exists() else 0 for out in self._outs]
        self._started: list[subprocess.Popen[bytes]] = []
        options = ["--config_file", str(MULTINODE), "--num_machines", str(len(machines))]
        options += ["--num_processes", str(len(machines)), "--main_process_ip", machines[0].name]
        options += ["--rdzv_conf", f"timeout={_MEETING}"]
        for rank, machine in enumerate(machines):
            words = [sys.executable, *program, *options, "--machine_rank", str(rank), "--main_process_port", str(port)]
            everything = environment(**(variables or {}))
            self._started.append(machine.start([*words, "-m", "distsae", *training], self._outs[rank], everything))

    def said(self, machine: int) -> str:
        """Returns what this try has said on a machine so far."""
        return self._outs[machine].read_bytes()[self._before[machine] :].decode()

    @property
    def all_said(self) -> str:
        """What it has said on all machines, for a failed test's report."""
        return "\n=====\n".join(self.said(machine) for machine in range(len(self._started)))

    def until(self, true: Callable[[], bool]) -> None:
        """Waits for something to become true while the launches live."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert any(started.poll() is None for started in self._started), self.all_said
            assert time.monotonic() < deadline, self.all_said
            time.sleep(0.02)

    def code(self, machine: int) -> int:
        """Waits for the launch on a machine to end, and returns its exit code."""
        try:
            return self._started[machine].wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.all_said) from None

    def codes(self) -> list[int]:
        """Waits for all launches, and returns their exit codes."""
        return [self.code(machine) for machine in range(len(self._started))]

    def runs(self) -> bool:
        """Whether some launch has not ended."""
        return any(started.poll() is None for started in self._started)


def trainer(machine: Machine) -> psutil.Process | None:
    """Returns the training process on a machine; None while there is none."""
    for process in machine.processes():
        try:
            if "RANK" in process.environ() and process.cmdline()[1:4] == ["-u", "-m", "distsae"]:
                return process
        except (psutil.Error, OSError):
            continue
    return None
