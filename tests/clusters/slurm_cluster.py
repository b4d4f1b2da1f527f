"""A real SLURM on the machines of a `Network`: its controller on the first one, its node daemon on the others.

The daemons are those of the packages slurmctld, slurmd and slurm-client. They trust each other without a key
(`auth/none`), keep all in one folder, and run as root. A node says that it has
64 cores and 8 GPUs, which are files that no process opens.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clusters.machines import Machine, Network, network, why_not
from tests.clusters.two_nodes import PATIENCE

_PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue")
_CONFIG = """
ClusterName=drill
SlurmctldHost={head}({head_address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
AuthInfo=cred_expire=10
CredType=cred/none
CommunicationParameters=NoAddrCache
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
GresTypes=gpu
SlurmdParameters=config_overrides
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdTimeout=30
KillWait={kill_wait}
InactiveLimit=0
MinJobAge=3600
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldDebug=info
SlurmdDebug=info
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_no_slurm() -> str:
    """Returns why there can be no SLURM here; empty if there can."""
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"needs {', '.join(missing)} (packages slurmctld, slurmd, slurm-client)"
    return why_not()


class SlurmCluster:
    """SLURM's commands, as typed on the first machine.

    Attributes:
        network: of the machines.
        head: machine of the controller.
        nodes: machines that run jobs.
    """

    def __init__(self, joined: Network, folder: Path, kill_wait: int) -> None:
        self.network = joined
        self.head, *self.nodes = joined.machines
        self._folder = folder
        for machine in self.nodes:
            (folder / f"spool-{machine.name}").mkdir()
        (folder / "state").mkdir()
        words = "CPUs=64 Gres=gpu:8 RealMemory=1000000 State=UNKNOWN"
        nodes = "\n".join(f"NodeName={machine.name} NodeAddr={machine.address} {words}" for machine in self.nodes)
        config = {"head": self.head.name, "head_address": self.head.address, "kill_wait": kill_wait}
        (folder / "slurm.conf").write_text(_CONFIG.format(folder=folder, nodes=nodes, **config))
        for number in range(8):
            os.mknod(folder / f"gpu{number}", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-7]\n")
        self._environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons = [self._daemon(self.head, "slurmctld", "-D")]
        self._daemons += [self._daemon(machine, "slurmd", "-D", "-N", machine.name) for machine in self.nodes]

    def __enter__(self) -> SlurmCluster:
        self.until(lambda: self.states().count("idle") == len(self.nodes))
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in self._daemons:
            daemon.kill()
            daemon.wait()

    def __call__(self, *words: str, **environment: str) -> str:
        """Runs a command of SLURM and returns what it prints."""
        done = subprocess.run(
            self.head.command(*words), capture_output=True, text=True, env={**self._environment, **environment}
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, *words: str, **environment: str) -> str:
        """Submits a batch script and returns the number of its job."""
        return self("sbatch", "--parsable", *words, **environment).strip()

    def states(self) -> list[str]:
        """Returns the state of each node."""
        return self("sinfo", "--noheader", "--Node", "--format=%t").split() if self._runs() else []

    def facts(self, job: str) -> dict[str, str]:
        """Returns what the controller knows of a job: JobState, Restarts, ExitCode and so on."""
        pairs = [word.partition("=") for word in self("scontrol", "--oneliner", "show", "job", job).split()]
        return {name: value for name, _, value in pairs}

    def give_minutes(self, job: str, more: int) -> None:
        """Sets the time limit of a job, so that it has about so many minutes left."""
        *days, hours, minutes, _ = self.facts(job)["RunTime"].replace("-", ":").split(":")
        assert not days
        self("scontrol", "update", f"JobId={job}", f"TimeLimit={60 * int(hours) + int(minutes) + more}")

    def array_states(self, job: str) -> set[str]:
        """Returns the states of the tasks of a job array."""
        lines = self("scontrol", "--oneliner", "show", "job", job).splitlines()
        return {word.partition("=")[2] for line in lines for word in line.split() if word.startswith("JobState=")}

    def turn_on(self, machine: Machine) -> None:
        """Starts a node that has lost power, with its daemon."""
        self.network.turn_on(machine)
        self._daemons.append(self._daemon(machine, "slurmd", "-D", "-N", machine.name))

    def ended(self, job: str, *states: str) -> dict[str, str]:
        """Waits for a job to be in one of some states, and returns its facts."""
        self.until(lambda: self.facts(job)["JobState"] in states)
        return self.facts(job)

    def until(self, true: Callable[[], bool]) -> None:
        """Waits for something to become true."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.1)

    def logs(self) -> str:
        return "\n=====\n".join(path.read_text()[-3000:] for path in sorted(self._folder.glob("*.log")))

    def _runs(self) -> bool:
        words = self.head.command("scontrol", "ping")
        return subprocess.run(words, env=self._environment, capture_output=True).returncode == 0

    def _daemon(self, machine: Machine, *words: str) -> subprocess.Popen[bytes]:
        out = (self._folder / f"{words[0]}-{machine.name}.out").open("a")
        with out:
            return subprocess.Popen(
                machine.command(*words), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self._environment
            )


@contextmanager
def slurm(folder: Path, *nodes: str, kill_wait: int = 60) -> Iterator[SlurmCluster]:
    """Runs SLURM on machines of these names, with a machine `head` for its controller."""
    with (
        network(folder, "head", *nodes, own_name_on_loopback=False) as joined,
        SlurmCluster(joined, folder, kill_wait) as cluster,
    ):
        yield cluster
