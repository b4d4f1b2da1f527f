"""OpenSSH on the machines of a `Network`: a server on each, and a key that opens all of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clusters.machines import Network, why_not

_PROGRAMS = ("sshd", "ssh", "ssh-keygen", "setsid")
_SERVER = """
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
PrintMotd no
"""


def why_no_ssh() -> str:
    """Returns why there can be no ssh here; empty if there can."""
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    return f"needs {', '.join(missing)} (package openssh-server)" if missing else why_not()


@contextmanager
def ssh_on(joined: Network, folder: Path) -> Iterator[str]:
    """Runs the servers, and gives the words that begin a call of ssh to one of the machines."""
    for name in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "sshd_config").write_text(_SERVER.format(folder=folder))
    Path("/run/sshd").mkdir(exist_ok=True)
    words = [shutil.which("sshd") or "sshd", "-D", "-e", "-f", str(folder / "sshd_config")]
    servers = []
    for machine in joined.machines:
        with (folder / f"sshd-{machine.name}").open("a") as out:
            servers.append(subprocess.Popen(machine.command(*words), stdin=subprocess.DEVNULL, stdout=out, stderr=out))
    try:
        options = ["BatchMode=yes", "StrictHostKeyChecking=no", f"UserKnownHostsFile={folder}/known", "LogLevel=ERROR"]
        options += ["ServerAliveInterval=2", "ServerAliveCountMax=3", "ConnectTimeout=20", "ConnectionAttempts=20"]
        yield " ".join(["ssh", "-F", "none", "-i", str(folder / "key"), *(f"-o {option}" for option in options)])
    finally:
        for server in servers:
            server.kill()
            server.wait()
