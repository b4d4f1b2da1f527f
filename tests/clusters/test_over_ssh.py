"""`launch/over_ssh.sh` over real ssh between machines that are two, typed on the first of them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distsae.checkpoint.names import checkpoints
from tests.clusters.machines import Network, network, process_of
from tests.clusters.ssh_machines import ssh_on, why_no_ssh
from tests.clusters.two_nodes import CHANGES, PATIENCE, environment, trainer
from tests.end_to_end.hold import Hold
from tests.end_to_end.launching import ROOT
from tests.end_to_end.runs import arguments, assert_same_end

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(why_no_ssh()), reason=why_no_ssh()),
]


@pytest.fixture
def joined(tmp_path):
    with network(tmp_path, "node1", "node2") as made:
        yield made


class _Typed:
    """The command as it is typed on the first machine; it is held at step 10 if there is something to hold it by."""

    def __init__(self, joined: Network, folder: Path, store: Path, ssh: str, held: bool = True) -> None:
        self.out, self.hold = folder / "run", Hold(folder, before=10)
        variables = {"HOSTS": "node1 root@node2", "SSH": ssh, "GPUS_PER_NODE": "1", "PAUSE": "1", "WAIT": "40"}
        variables |= {"DISTSAE_PYTHON": sys.executable, "SEND": "ACCELERATE_USE_CPU OMP_NUM_THREADS PYTHONPATH"}
        if held:
            variables |= self.hold.environment
            variables["SEND"] += " HOLD_BEFORE HOLD_WHILE"
        words = ["bash", str(ROOT / "launch" / "over_ssh.sh"), *arguments(store, self.out, **CHANGES)[1:]]
        self._said = folder / "out"
        self.started = joined.machines[0].start(words, self._said, environment(**variables))

    @property
    def said(self) -> str:
        return self._said.read_text()

    def until_held(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while len(checkpoints(self.out / "checkpoints")) < 2:
            assert self.started.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)

    def code(self) -> int:
        try:
            return self.started.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.said) from None


def test_a_killed_process_and_a_stop(joined, tiny_store, tmp_path, alone):
    """A crash on one machine starts all of them again; SIGTERM stops all of them; the same command finishes."""
    with ssh_on(joined, tmp_path) as ssh:
        typed = _Typed(joined, tmp_path, tiny_store, ssh)
        typed.until_held()
        trainer(joined.machines[1]).kill()
        deadline = time.monotonic() + PATIENCE
        while typed.said.count("resumed from") < 1 or trainer(joined.machines[1]) is None:
            assert time.monotonic() < deadline, typed.said
            time.sleep(0.1)
        assert "over_ssh: try 1 of 4 ended with" in typed.said
        process_of(typed.started).send_signal(signal.SIGTERM)
        assert typed.code() == 75, typed.said
        assert "over_ssh: stopped; the same command goes on from the newest checkpoint" in typed.said
        assert all(trainer(machine) is None for machine in joined.machines)
        typed = _Typed(joined, tmp_path, tiny_store, ssh, held=False)
        assert typed.code() == 0, typed.said
    assert_same_end(tmp_path / "run", alone)


def test_a_killed_script_leaves_nothing_running(joined, tiny_store, tmp_path):
    with ssh_on(joined, tmp_path) as ssh:
        typed = _Typed(joined, tmp_path, tiny_store, ssh)
        typed.until_held()
        process_of(typed.started).kill()
        deadline = time.monotonic() + PATIENCE
        while any(trainer(machine) is not None for machine in joined.machines):
            assert time.monotonic() < deadline, typed.said
            time.sleep(0.1)
        assert checkpoints(typed.out / "checkpoints")[-1].name > "step-00000008"  # saved before they ended


def test_a_cable_that_is_pulled(joined, tiny_store, tmp_path, alone):
    """ssh notices, the first machine is killed in time, and both start again once the cable is back."""
    with ssh_on(joined, tmp_path) as ssh:
        typed = _Typed(joined, tmp_path, tiny_store, ssh)
        typed.until_held()
        joined.pull_cable(joined.machines[1])
        typed.hold.release()
        deadline = time.monotonic() + PATIENCE
        while "the connection to root@node2 is lost" not in typed.said:
            assert time.monotonic() < deadline, typed.said
            time.sleep(0.1)
        joined.plug_cable(joined.machines[1])
        assert typed.code() == 0, typed.said
    assert_same_end(typed.out, alone)
