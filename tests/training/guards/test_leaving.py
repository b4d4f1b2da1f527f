"""A rank that leaves alone waits neither for other ranks nor, for long, for wandb; all together they wait for wandb."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from distsae.errors import CannotContinue, Diverged
from distsae.training.guards import Watchdog
from distsae.training.guards.leaving import leave_together, leave_with


class _Tracker:
    """A tracker whose server answers once it is told to."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answers = threading.Event()
        self.finished = False

    def finish(self) -> None:
        self.asked.set()
        self.answers.wait()
        self.finished = True


@pytest.fixture
def job():
    tracker = _Tracker()
    ended = []
    yield SimpleNamespace(trackers=[tracker], end_training=lambda: ended.append(True), ended=ended), tracker
    tracker.answers.set()


@pytest.mark.parametrize("error", [CannotContinue("a full GPU"), AssertionError("a bug")])
def test_an_error_of_one_rank_does_not_wait_for_wandb(job, error):
    accelerator, tracker = job
    leave_with(error, accelerator, Watchdog(None), seconds=0.01)
    assert tracker.asked.wait(60)
    assert not tracker.finished
    assert not accelerator.ended  # the process group would be destroyed


@pytest.mark.parametrize("error", [Diverged("all ranks"), SystemExit(75), KeyboardInterrupt()])
def test_what_ends_all_ranks_waits_for_wandb(job, error):
    accelerator, tracker = job
    tracker.answers.set()
    watchdog = Watchdog(None)
    leave_with(error, accelerator, watchdog, seconds=0)
    assert tracker.finished
    assert not accelerator.ended
    assert watchdog.activity == "closing wandb"


def test_finished_work_ends_the_process_group(job):
    accelerator, _ = job
    leave_together(accelerator, Watchdog(None))
    assert accelerator.ended == [True]
