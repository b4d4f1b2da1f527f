"""The exit code of a launch is that of the process that failed first; `accelerate launch` itself says 1 to all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from distsae.launching.launcher import first_code
from tests.end_to_end.launching import ENVIRONMENT, ROOT

KILLED, ENDED = -signal.SIGKILL, -signal.SIGTERM


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([75, 75], 75),
        ([75, ENDED], 75),  # the agent's SIGTERM
        ([ENDED, 75], 75),
        ([KILLED, 1], 137),
        ([1, KILLED], 1),
        ([1, 75], 1),  # asked by the agent, since the other one had crashed
        ([ENDED, KILLED], 137),
        ([ENDED, ENDED], 143),
        ([1, 3], 3),  # the one that saw the loss
        ([2, 1], 2),
    ],
)
def test_who_speaks_for_the_launch(statuses, code):
    assert first_code(statuses) == code


def _launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    inherited, lifeline = os.pipe()
    try:
        return subprocess.run(
            [sys.executable, "-m", "distsae.launching.launcher", str(inherited), *arguments],
            pass_fds=(inherited,),
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            timeout=300,
        )
    finally:
        os.close(inherited)
        os.close(lifeline)


def test_what_accelerate_refuses_is_wrong_input(tmp_path):
    done = _launch("--config_file", str(tmp_path / "nowhere.yaml"), "script.py")
    assert done.returncode == 2
    assert done.stderr.count("distsae: error: accelerate launch: ") == 1
    assert "nowhere.yaml" in done.stderr


@pytest.mark.parametrize("end", ["sys.exit(9)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_one_process_which_accelerate_starts_without_torch(end, tmp_path):
    """With `--num_processes 1` there is no agent."""
    script = tmp_path / "script.py"
    script.write_text(f"import os, signal, sys\n{end}\n")
    config = str(ROOT / "cluster_configs" / "cpu_2.yaml")
    done = _launch("--cpu", "--config_file", config, "--num_processes", "1", "--quiet", str(script))
    assert done.returncode == (9 if "exit" in end else 137), done.stderr
