"""Ways in which a machine of a `Network` is lost, and how it comes back."""

from __future__ import annotations

import contextlib

import psutil

from tests.clusters.machines import Machine, Network

WAYS = ("power", "cable", "killed")
"""It is off; nothing reaches it any more; all of its processes are killed."""


def lose(network: Network, machine: Machine, way: str) -> None:
    """Loses a machine."""
    if way == "power":
        network.lose_power(machine)
    elif way == "cable":
        network.pull_cable(machine)
    else:
        kill_all(machine)


def bring_back(network: Network, machine: Machine, way: str) -> None:
    """Makes a lost machine as good as new: it is on, reached by the others, and nothing runs on it."""
    if way == "power":
        network.turn_on(machine)
        return
    network.plug_cable(machine)
    kill_all(machine)


def kill_all(machine: Machine) -> None:
    """Kills all processes on a machine but the first."""
    while left := machine.processes():
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)
