"""Ranks are killed at random, also inside saving, and the run ends as the one that nobody touched, bit for bit.

pytest tests/end_to_end/test_random_kills.py -m heavy -s
"""

from __future__ import annotations

import contextlib
import random
import time
from pathlib import Path

import psutil
import pytest

from distsae.checkpoint.names import checkpoints, step_of
from tests.end_to_end.hold import Hold
from tests.end_to_end.launching import launch
from tests.end_to_end.runs import arguments, assert_same_end, metrics
from tests.end_to_end.supervising import Supervised

_HEAVY = [pytest.mark.heavy, pytest.mark.timeout(7200)]


def _saved(out: Path) -> int:
    """The step of the newest published checkpoint."""
    return max((step_of(path) or 0 for path in checkpoints(out / "checkpoints")), default=0)


def _being_saved(out: Path) -> set[str]:
    return {path.name for path in (out / "checkpoints").glob(".step-*")}


def _ranks(run: Supervised) -> dict[int, psutil.Process]:
    """The two training processes by their rank, or fewer while they are being started."""
    found = {}
    with contextlib.suppress(psutil.Error):
        for launcher in psutil.Process(run.process.pid).children():
            for process in launcher.children():
                if (rank := process.environ().get("RANK")) is not None:
                    found[int(rank)] = process
    return found


def _kill_at_random(run: Supervised, out: Path, kills: int, steps: int, chance: random.Random) -> tuple[int, int]:
    """Kills a random rank so many times: shortly after a random step, and every sixth time early in a process's life.

    Returns:
        How many kills fell inside saving, and how many came early.
    """
    in_saving, early = 0, 0
    killed: set[int] = set()
    leftovers: set[str] = set()
    for number, target in enumerate(sorted(chance.sample(range(2, steps * 4 // 5), kills)), 1):
        while len(ranks := _ranks(run)) < 2 or not killed.isdisjoint(process.pid for process in ranks.values()):
            assert run.process.poll() is None, run.said
            time.sleep(0.01)
        if number % 6 == 0:
            early += 1
            time.sleep(chance.uniform(0, 4))
        else:
            run.until(lambda target=target: _saved(out) >= target)
            time.sleep(chance.uniform(0, 0.1))
        victim = ranks[chance.randrange(2)]
        before = _being_saved(out) - leftovers
        victim.kill()
        after = _being_saved(out)
        in_saving += bool(before & after)
        leftovers |= after
        killed |= {process.pid for process in ranks.values()}
    return in_saving, early


@pytest.mark.parametrize(
    ("kills", "steps", "mesh"),
    [
        pytest.param(2, 40, {"mesh.data": 1, "mesh.feature": 2}, id="2 kills of 1x2"),
        pytest.param(30, 240, {"mesh.data": 1, "mesh.feature": 2}, id="30 kills of 1x2", marks=_HEAVY),
        pytest.param(30, 240, {"mesh.data": 2, "mesh.feature": 1}, id="30 kills of 2x1", marks=_HEAVY),
    ],
)
def test_a_run_under_random_kills_is_the_run_that_nobody_touched(kills, steps, mesh, tiny_store, tmp_path):
    changes = {"steps": steps, "checkpoint.every": 1, **mesh}
    straight = launch(arguments(tiny_store, tmp_path / "straight", **changes))
    assert straight.returncode == 0, straight.stderr
    out = tmp_path / "killed"
    command = ["-m", "distsae", *arguments(tiny_store, out, **changes)]
    hold = Hold(tmp_path, before=steps - 1)  # until all kills are dealt
    run = Supervised(tmp_path, command, "--restarts", str(kills + 10), "--pause", "0", environment=hold.environment)
    try:
        in_saving, early = _kill_at_random(run, out, kills, steps, random.Random(kills))
        hold.release()
        assert run.code() == 0, run.said
    finally:
        run.kill()
    tries = run.said.count("supervise: try ")
    print(
        f"{kills} kills, {in_saving} of them inside saving and {early} early in a process's life; {tries} tries ended "
        f"before the last; {run.said.count('resumed from')} resumes"
    )
    assert tries == kills
    assert kills < 30 or in_saving > 0
    assert_same_end(out, tmp_path / "straight")
    assert [line["step"] for line in metrics(out)] == list(range(1, steps + 1))
