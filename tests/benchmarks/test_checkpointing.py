"""Every way to save really saves, small: what the tables are made of cannot break unseen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.benchmarks.checkpointing import _WAYS

ROOT = Path(__file__).parents[2]


def test_the_cost_of_a_save_is_measured_for_each_way():
    command = [sys.executable, "-m", "tests.benchmarks.checkpointing", "--d_sae", "256", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=500)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ")[0].strip("| ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len([row for row in rows if row.startswith(("distsae", "`torch.save`", "DCP"))]) == len(_WAYS) + 1
