"""A machine that a SLURM batch script can be run on: `srun` and `scontrol` as small programs on its path.

They do here what the manuals of SLURM say of them. `srun` starts the command once for each node, all of them on this
machine; sends a signal that it gets to every process of the step; and ends with the highest exit code of its tasks,
128 + n where a signal ended one. `scontrol` knows the names of the nodes and the state of the job, and writes down
what is requeued.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.end_to_end.launching import ENVIRONMENT, ROOT

_SRUN = """#!{python}
import os, pathlib, signal, subprocess, sys
import psutil

command = sys.argv[1:]
while command[0].startswith("-"):
    command.pop(0)
with pathlib.Path({folder!r}, "steps").open("a") as steps:
    print(os.environ["MAIN_PORT"], file=steps)
tasks = []

def forward(number, _):
    for task in tasks:
        try:
            for process in [psutil.Process(task.pid), *psutil.Process(task.pid).children(recursive=True)]:
                process.send_signal(number)
        except psutil.NoSuchProcess:
            pass

for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, forward)
for node in range(int(os.environ["SLURM_NNODES"])):
    tasks.append(subprocess.Popen(command, env=os.environ | {{"SLURM_NODEID": str(node)}}))
codes = [task.wait() for task in tasks]
sys.exit(max(128 - code if code < 0 else code for code in codes))
"""
_SCONTROL = """#!{python}
import pathlib, sys

folder = pathlib.Path({folder!r})
match sys.argv[1:]:
    case ["show", "hostnames", "node[0-1]"]:
        print("localhost\\nlocalhost")
    case ["show", "job", "4242"]:
        print("JobId=4242 JobName=distsae-train\\n   JobState=" + (folder / "state").read_text() + " Reason=None")
    case ["requeue", "4242"]:
        (folder / "requeued").open("a").write("4242\\n")
    case _:
        sys.exit(f"scontrol: invalid: {{sys.argv[1:]}}")
"""


class Cluster:
    """One job's view of a cluster.

    Args:
        folder: where its programs and what they write down are; the job's output goes to `out`.
        nodes: of the job.
        processes: on each.
    """

    def __init__(self, folder: Path, nodes: int, processes: int) -> None:
        self.folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir()
        (folder / "state").write_text("RUNNING")
        for name, text in (("srun", _SRUN), ("scontrol", _SCONTROL)):
            path = self.programs / name
            path.write_text(text.format(python=sys.executable, folder=str(folder)))
            path.chmod(0o755)
        self._environment = ENVIRONMENT | {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "4242",
            "SLURM_JOB_NODELIST": "node[0-1]",
            "SLURM_NNODES": str(nodes),
            "SLURM_GPUS_ON_NODE": str(processes),
            "SLURM_CPUS_PER_TASK": str(processes),
            "SLURM_SUBMIT_DIR": str(ROOT),
            "DISTSAE_PYTHON": sys.executable,
            "CLUSTER_CONFIG": str(ROOT / "cluster_configs" / "cpu_2.yaml"),
            "PAUSE": "0",
        }

    def start(self, arguments: list[str], **environment: str) -> subprocess.Popen[bytes]:
        """Starts `launch/slurm_train.sh` as sbatch would."""
        with (self.folder / "out").open("a") as out:
            return subprocess.Popen(
                ["bash", str(ROOT / "launch" / "slurm_train.sh"), *arguments],
                env=self._environment | environment,
                cwd=self.folder,
                stdout=out,
                stderr=out,
            )

    @property
    def said(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def requeued(self) -> int:
        path = self.folder / "requeued"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def ports(self) -> list[str]:
        """Returns the port of each step."""
        return (self.folder / "steps").read_text().split()
