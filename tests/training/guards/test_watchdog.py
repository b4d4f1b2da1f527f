"""Real processes that make no progress; tests/end_to_end/test_guards.py suspends one rank of a run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

from distsae.training.guards.heartbeats import Beat
from distsae.training.guards.watchdog import Watchdog, report

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "tests.training.standing_still"]


def _process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=300, cwd=ROOT, env=os.environ | environment
    )


def test_a_stuck_process_reports_its_activity_and_ends():
    done = _process("0.3")
    assert done.returncode == 1
    assert "distsae: error (rank 0 on " in done.stderr
    assert re.search(r"step 2: moving: no progress for \d+ s, longer than `hang_seconds`", done.stderr)
    assert "larger `hang_seconds`" in done.stderr
    assert "in _stuck_here" in done.stderr
    assert "other rank" not in done.stderr


@pytest.mark.parametrize("arguments", [("1", "unlimited", "briefly"), ("1", "moves"), ("none", "briefly")])
def test_a_process_that_moves_or_has_no_limit_is_not_ended(arguments):
    done = _process(*arguments)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_process_that_waits_for_an_unlimited_rank_is_ended_only_when_that_rank_is_silent():
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2"}
    other = subprocess.Popen([*COMMAND, "0.5", "unlimited"], cwd=ROOT, env=os.environ | job | {"RANK": "1"})
    try:
        while "waiting for rows" not in store.get("distsae/heartbeat/0/1").decode():
            pass
        waiting = _process("1", "briefly", "patiently", **job, RANK="0")
        assert (waiting.returncode, waiting.stderr) == (0, "")
        other.send_signal(signal.SIGSTOP)
        waiting = _process("1", **job, RANK="0")
        assert waiting.returncode == 1
        assert re.search(r": last heartbeat \d+ s ago; waiting for rows, started ", waiting.stderr)
        assert "check the machine of rank 1 first" in waiting.stderr
    finally:
        other.kill()
        other.wait()


def test_the_last_activity_is_known_afterwards():
    with Watchdog(60) as watchdog:
        watchdog.working_on("step 1")
    assert watchdog.activity == "step 1"


STEP = "step 8: selecting and stepping"


def _beat(number: int, activity: str = STEP, at: float = 999.0, since: float = 400.0) -> Beat:
    return Beat(number, "b", activity, False, since, at)


def test_silent_ranks_come_first_then_those_elsewhere():
    earlier = {0: _beat(5), 1: _beat(5, "reading batch 8", at=450.0), 3: _beat(5), 4: _beat(5)}
    latest = {0: _beat(6), 1: earlier[1], 3: _beat(6, "step 7: logging", since=390.0), 4: _beat(6)}
    lines = report(STEP, 600.4, 0, 6, earlier, latest, 1000.0).splitlines()
    assert lines[0].startswith("distsae: error (rank 0 on ")
    assert lines[0].endswith(f"{STEP}: no progress for 600 s, longer than `hang_seconds`")
    assert [line.strip() for line in lines[1:-1]] == [
        "rank 1 on b: last heartbeat 550 s ago; reading batch 8, started 600 s ago",
        "rank 2 has sent no heartbeat at all",
        "rank 5 has sent no heartbeat at all",
        "rank 3 on b: alive; step 7: logging, started 610 s ago",
        "rank 4 is at the same point as this one",
    ]
    assert lines[-1].strip().startswith("check the machine of rank 1 first; start the same command again")


def test_a_job_of_many_ranks_and_a_store_that_does_not_answer():
    latest = {rank: _beat(2, "reading batch 8") for rank in range(1, 100)} | {100: _beat(2), 101: _beat(2)}
    text = report(STEP, 60.0, 0, 102, {}, latest, 1000.0)
    assert text.count("reading batch 8") == 16
    assert "and 83 more ranks like these" in text
    assert "2 other ranks are at the same point as this one" in text
    assert "the launcher's store does not answer" in report(STEP, 60.0, 0, 2, {}, {}, 1000.0)
