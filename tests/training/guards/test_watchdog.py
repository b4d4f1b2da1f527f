"""Real processes that stand still; tests/end_to_end/test_guards.py stops one rank of a run."""

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


def test_a_process_that_stands_still_says_what_it_did_and_ends():
    done = _process("0.3")
    assert done.returncode == 1
    assert "distsae: error (rank 0 on " in done.stderr
    assert re.search(r"step 2: moving: nothing has moved for \d+ s, longer than `hang_seconds`", done.stderr)
    assert "larger `hang_seconds`" in done.stderr
    assert "in _stuck_here" in done.stderr
    assert "other rank" not in done.stderr


@pytest.mark.parametrize("arguments", [("1", "rests", "briefly"), ("1", "moves"), ("none", "briefly")])
def test_who_moves_or_rests_or_is_not_watched_is_left_alone(arguments):
    done = _process(*arguments)
    assert (done.returncode, done.stderr) == (0, "")


def test_who_waits_for_a_rank_that_rests_is_left_alone_until_that_is_silent():
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2"}
    other = subprocess.Popen([*COMMAND, "0.5", "rests"], cwd=ROOT, env=os.environ | job | {"RANK": "1"})
    try:
        while "waiting for rows" not in store.get("distsae/heartbeat/0/1").decode():
            pass
        waiting = _process("1", "briefly", "patiently", **job, RANK="0")
        assert (waiting.returncode, waiting.stderr) == (0, "")
        other.send_signal(signal.SIGSTOP)
        waiting = _process("1", **job, RANK="0")
        assert waiting.returncode == 1
        assert "s ago, since then silent; waiting for rows, begun " in waiting.stderr
        assert "look at the machine of rank 1 first" in waiting.stderr
    finally:
        other.kill()
        other.wait()


def test_what_was_begun_is_known_afterwards():
    with Watchdog(60) as watchdog:
        watchdog.working_on("step 1")
    assert watchdog.doing == "step 1"


STEP = "step 8: selecting and stepping"


def _beat(number: int, doing: str = STEP, at: float = 999.0, since: float = 400.0) -> Beat:
    return Beat(number, "b", doing, False, since, at)


def test_silent_ranks_come_first_then_those_elsewhere():
    before = {0: _beat(5), 1: _beat(5, "reading batch 8", at=450.0), 3: _beat(5), 4: _beat(5)}
    now = {0: _beat(6), 1: before[1], 3: _beat(6, "step 7: logging", since=390.0), 4: _beat(6)}
    lines = report(STEP, 600.4, 0, 6, before, now, 1000.0).splitlines()
    assert lines[0].startswith("distsae: error (rank 0 on ")
    assert lines[0].endswith(f"{STEP}: nothing has moved for 600 s, longer than `hang_seconds`")
    assert [line.strip() for line in lines[1:-1]] == [
        "rank 1 on b: last heard of 550 s ago, since then silent; reading batch 8, begun 600 s ago",
        "rank 2 was never heard of",
        "rank 5 was never heard of",
        "rank 3 on b: alive; step 7: logging, begun 610 s ago",
        "rank 4 stands where this one does",
    ]
    assert lines[-1].strip().startswith("look at the machine of rank 1 first; start the same command again")


def test_a_job_of_many_ranks_and_a_store_that_is_silent():
    now = {rank: _beat(2, "reading batch 8") for rank in range(1, 100)} | {100: _beat(2), 101: _beat(2)}
    text = report(STEP, 60.0, 0, 102, {}, now, 1000.0)
    assert text.count("reading batch 8") == 16
    assert "and 83 more ranks like these" in text
    assert "2 other ranks stand where this one does" in text
    assert "the launcher's store does not answer" in report(STEP, 60.0, 0, 2, {}, {}, 1000.0)
