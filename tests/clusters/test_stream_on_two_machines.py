"""`distsae stream` on machines that are two: both produce, both train, one of them is lost, and the stream goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from distsae import SAE
from distsae.exit_codes import DONE, STOPPED
from tests.clusters.machines import Machine, network, process_of, why_not
from tests.clusters.two_nodes import HANG, PATIENCE, environment
from tests.end_to_end.producers import run_distsae
from tests.end_to_end.streams import STEPS, steps_done, stream_words

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]


class _TwoStreams:
    """The command on both machines, which see the same folder."""

    def __init__(self, machines: Sequence[Machine], words: list[str], out: Path) -> None:
        self._said = [out.parent / f"said-{machine.name}" for machine in machines]
        meeting = ["--machines", "2", "--main_process_ip", machines[0].name, "--restarts", "0", "--grace", "60"]
        self.started: list[subprocess.Popen[bytes]] = []
        for rank, machine in enumerate(machines):
            command = [sys.executable, "-m", "distsae", *words, "--out", str(out), *meeting]
            command += ["--machine_rank", str(rank)]
            self.started.append(machine.start(command, self._said[rank], environment()))

    @property
    def said(self) -> str:
        """What both have said."""
        return "\n=====\n".join(said.read_text() for said in self._said)

    def until(self, true: Callable[[], bool]) -> None:
        """Waits for something to become true while both run."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert all(started.poll() is None for started in self.started), self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)

    def codes(self) -> list[int]:
        """Waits for both, and returns their exit codes."""
        return [started.wait(PATIENCE) for started in self.started]


def test_lost_and_stopped_it_goes_on_with_the_weights_of_one_machine(tiny_model_dir, tmp_path):
    words = stream_words(tiny_model_dir, tmp_path, hang_seconds=HANG)
    out = tmp_path / "two" / "stream"
    out.parent.mkdir()
    with network(tmp_path, "node1", "node2") as joined:
        first, second = joined.machines
        job = _TwoStreams(joined.machines, words, out)
        job.until(lambda: steps_done(out) > 0.2 * STEPS)
        joined.lose_power(second)
        assert job.started[0].wait(PATIENCE) not in (DONE, STOPPED), job.said
        joined.turn_on(second)

        job = _TwoStreams(joined.machines, words, out)
        job.until(lambda: steps_done(out) > 0.6 * STEPS)
        process_of(job.started[1]).send_signal(signal.SIGTERM)
        assert job.codes() == [STOPPED, STOPPED], job.said
        assert not [process for process in first.processes() if "distsae" in " ".join(process.cmdline())]

        job = _TwoStreams(joined.machines, words, out)
        assert job.codes() == [DONE, DONE], job.said
    assert (out / "producers-0.log").read_text()
    assert (out / "producers-1.log").read_text()
    alone = tmp_path / "alone"
    done = run_distsae([*stream_words(tiny_model_dir, tmp_path, mesh={"data": 2}), "--out", str(alone)])
    assert done.returncode == 0, done.stderr
    found, expected = (SAE.load(folder / "run").state_dict() for folder in (out, alone))
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
