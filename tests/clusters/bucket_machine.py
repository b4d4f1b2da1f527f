"""A machine that is an object store for the others of its network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clusters.machines import Machine
from tests.end_to_end.launching import ROOT

_PORT = "9000"
_COPY = """
import pathlib, sys
import obstore
from obstore.store import S3Store

prefix, folder = sys.argv[1], pathlib.Path(sys.argv[2])
store = S3Store("bucket", client_options={"allow_http": True})
for batch in obstore.list(store, prefix):
    for item in batch:
        path = folder / pathlib.PurePosixPath(item["path"]).relative_to(prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(obstore.get(store, item["path"]).bytes()))
"""


class Bucket:
    """The bucket `s3://bucket` on a machine.

    Attributes:
        environment: variables that lead other machines to it.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://{machine.address}:{_PORT}",
            "AWS_ACCESS_KEY_ID": "anybody",
            "AWS_SECRET_ACCESS_KEY": "anything",
            "AWS_REGION": "us-east-1",
            "NO_PROXY": machine.address,
            "no_proxy": machine.address,
        }

    def copy(self, prefix: str, folder: Path) -> None:
        """Copies all objects under a prefix to a folder."""
        variables = {**os.environ, **self.environment}
        words = self.machine.command(sys.executable, "-c", _COPY, prefix, str(folder))
        subprocess.run(words, check=True, env=variables)


@contextmanager
def bucket_on(machine: Machine) -> Iterator[Bucket]:
    """Runs the object store on a machine, with an empty bucket."""
    program = str(ROOT / "tests" / "object_server.py")
    server = subprocess.Popen(
        machine.command(sys.executable, "-P", program, machine.address, _PORT, "bucket"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline().decode().strip() == _PORT, "the server did not start"
        yield Bucket(machine)
    finally:
        server.communicate()
