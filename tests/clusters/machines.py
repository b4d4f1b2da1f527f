"""Machines on this one that are two: with a network, processes, a name and a view of names each, joined by a switch.

A machine is a set of Linux namespaces, held by its first process. Its network interface `eth0` is one end of a veth
pair, whose other end is a port of a bridge in a namespace of its own, the switch. So a pulled cable is a port that is
down; a machine that loses power is a pulled cable and the first process killed, and all others on it with it. Nothing
is left in the host's own namespaces, and nothing can leave the switch: it has no route. Files are shared, as on a
cluster's file system.

Linux, root, and iproute2 and util-linux are needed; `why_not` says what is missing.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

NETWORK = "198.18.0"
"""Addresses for benchmarks of networks (RFC 2544): no machine of any real network has them."""

_INIT = """
hostname "$1" && mount --bind "$2" /etc/hosts && mount --bind /dev/null /etc/resolv.conf &&
    ip link set lo up && echo ready
while read -r _; do :; done
"""
_TOOLS = ("ip", "unshare", "nsenter", "hostname", "mount")


class Machine:
    """One of the machines of a `Network`.

    Attributes:
        name: what it calls itself, and how the others find it.
        address: of its interface `eth0`.
    """

    def __init__(self, name: str, number: int, hosts: Path) -> None:
        self.name = name
        self.address = f"{NETWORK}.{number}"
        self.port = f"port{number}"
        self._number = number
        self._hosts = hosts
        self._holder: subprocess.Popen[str] | None = None

    @property
    def first_process(self) -> int:
        """The number, on the host, of the machine's process 1."""
        assert self._holder is not None
        return psutil.Process(self._holder.pid).children()[0].pid

    def boot(self) -> None:
        """Starts the machine without a cable in its interface."""
        words = ["unshare", "--net", "--uts", "--ipc", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._holder = _holder([*words, "bash", "-c", _INIT, "bash", self.name, str(self._hosts)])

    def connect(self, switch: int) -> None:
        """Joins `eth0` to a port of the switch."""
        pair = ["ip", "link", "add", self.port, "type", "veth", "peer", "name", "eth0"]
        _run(_within(switch, "--net"), *pair, "netns", str(self.first_process))
        _run(_within(switch, "--net"), "ip", "link", "set", self.port, "master", "bridge0", "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def command(self, *words: str) -> list[str]:
        """Returns the words that run a command on this machine."""
        return [*_within(self.first_process, "--net", "--uts", "--ipc", "--mount", "--pid"), *words]

    def run(self, *words: str) -> str:
        """Runs a short command here and returns what it prints."""
        return _run(self.command(), *words)

    def start(self, words: Sequence[str], out: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Starts a command here; what it says is added to a file. Signals go to `process_of` the result."""
        with out.open("a") as file:
            return subprocess.Popen(
                self.command(*words), stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=dict(environment)
            )

    def processes(self) -> list[psutil.Process]:
        """Returns all processes here but the first, as the host sees them."""
        own = Path(f"/proc/{self.first_process}/ns/pid").readlink()
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError):
                if process.pid != self.first_process and Path(f"/proc/{process.pid}/ns/pid").readlink() == own:
                    found.append(process)
        return found

    def end(self) -> None:
        """Ends all processes at once. Linux still closes their connections, so the others may hear of it."""
        if self._holder is not None and self._holder.poll() is None:
            with contextlib.suppress(IndexError, psutil.Error):
                psutil.Process(self.first_process).kill()
            self._holder.kill()
        if self._holder is not None:
            self._holder.communicate()


class Network:
    """Machines that reach each other through a switch, and nobody else.

    Args:
        folder: for what they think the names of the others are.
        names: of the machines.
        own_name_on_loopback: whether a machine's own name leads to 127.0.1.1 there, as Debian installs it.
    """

    def __init__(self, folder: Path, names: Sequence[str], own_name_on_loopback: bool = True) -> None:
        self.machines: list[Machine] = []
        for number, name in enumerate(names, 1):
            hosts = folder / f"hosts-{name}"
            lines = ["127.0.0.1 localhost"]
            for other, other_name in enumerate(names, 1):
                own = other == number and own_name_on_loopback
                lines.append(f"{'127.0.1.1' if own else f'{NETWORK}.{other}'} {other_name}")
            hosts.write_text("".join(f"{line}\n" for line in lines))
            self.machines.append(Machine(name, number, hosts))
        self._switch: subprocess.Popen[str] | None = None

    def __enter__(self) -> Network:
        try:
            self._switch = _holder(["unshare", "--net", "bash", "-c", "echo ready; while read -r _; do :; done"])
            self._at_switch("ip", "link", "add", "bridge0", "type", "bridge")
            self._at_switch("ip", "link", "set", "bridge0", "up")
            for machine in self.machines:
                self.turn_on(machine)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self.machines:
            machine.end()
        if self._switch is not None:
            self._switch.kill()
            self._switch.communicate()

    def turn_on(self, machine: Machine) -> None:
        """Starts a machine, for the first time or after it has lost power."""
        assert self._switch is not None
        with contextlib.suppress(subprocess.CalledProcessError):  # the kernel removes its old cable when it finds time
            self._at_switch("ip", "link", "delete", machine.port)
        machine.boot()
        machine.connect(self._switch.pid)

    def lose_power(self, machine: Machine) -> None:
        """Ends a machine, of which the others hear nothing."""
        self.pull_cable(machine)
        machine.end()

    def pull_cable(self, machine: Machine) -> None:
        """Cuts a machine off: its interface loses its carrier, and the others get no answer."""
        self._at_switch("ip", "link", "set", machine.port, "down")

    def plug_cable(self, machine: Machine) -> None:
        """Joins a machine to the others again."""
        self._at_switch("ip", "link", "set", machine.port, "up")

    def limit(self, machine: Machine, megabits: int) -> None:
        """Lets so much through towards a machine and away from it, megabits a second; tc's token bucket."""
        words = ["root", "tbf", "rate", f"{megabits}mbit", "burst", "64kb", "latency", "200ms"]
        self._at_switch("tc", "qdisc", "replace", "dev", machine.port, *words)
        machine.run("tc", "qdisc", "replace", "dev", "eth0", *words)

    def delay(self, machine: Machine, milliseconds: float) -> None:
        """Keeps every packet towards a machine for a time; tc's netem, which not every kernel has."""
        self._at_switch("tc", "qdisc", "replace", "dev", machine.port, "root", "netem", "delay", f"{milliseconds}ms")

    def carried(self, machine: Machine) -> int:
        """Returns the bytes that a machine has sent since it was turned on."""
        return int(machine.run("cat", "/sys/class/net/eth0/statistics/tx_bytes"))

    def _at_switch(self, *words: str) -> str:
        assert self._switch is not None
        return _run(_within(self._switch.pid, "--net"), *words)


def process_of(started: subprocess.Popen[bytes]) -> psutil.Process:
    """Returns the command that `Machine.start` runs; the process that was started only waits for it."""
    return psutil.Process(started.pid).children()[0]


@functools.cache
def why_not() -> str:
    """Returns why no machines can be made here; empty if they can."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with Network(Path(folder), ["one"]) as network:
                network.machines[0].run("true")
        except (OSError, AssertionError, IndexError, subprocess.CalledProcessError) as error:
            return f"cannot make network namespaces here: {getattr(error, 'stderr', '') or error}"
    return ""


def _holder(words: list[str]) -> subprocess.Popen[str]:
    """Starts a process that holds namespaces until this process ends."""
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stderr is not None
    if holder.stdout.readline() != "ready\n":
        raise AssertionError(holder.stderr.read())
    return holder


def _within(process: int, *namespaces: str) -> list[str]:
    return ["nsenter", "--target", str(process), *namespaces, "--"]


def _run(prefix: Sequence[str], *words: str) -> str:
    return subprocess.run([*prefix, *words], check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def network(folder: Path, *names: str, own_name_on_loopback: bool = True) -> Iterator[Network]:
    """Makes machines of these names, and takes them away again."""
    with Network(folder, names, own_name_on_loopback) as made:
        yield made
