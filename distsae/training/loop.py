"""The training loop: a batch is read once, and every run does an optimizer step on it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, TypeVar

from distsae.batches import BatchReader
from distsae.checkpoint import CheckpointFailed
from distsae.errors import Diverged
from distsae.exit_codes import STOPPED
from distsae.progress import Progress, say
from distsae.training.folder import start_tracking
from distsae.training.guards import StopVote, Watchdog
from distsae.training.metrics import all_stopped
from distsae.training.run import Run

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["train_runs"]

Shown = dict[str, float | str]
Result = TypeVar("Result")


def train_runs(
    runs: list[Run], reader: BatchReader, accelerator: Accelerator, stop: StopVote, watchdog: Watchdog
) -> None:
    """Trains runs to their end, or until they are asked to stop. Collective.

    They may have stopped at different steps before: each takes part from its own on.

    Args:
        runs: of as many steps and of the same order of rows, not yet begun; one that stops is taken out and forgotten.
        reader: of their batches.
        accelerator: device and tracking.
        stop: says when to.
        watchdog: hears what is begun.

    Raises:
        Diverged: the only run, at once; of members of a sweep, which are named, after the others have ended.
    """
    members = _Members(runs)
    for run in runs:
        members.attempt(run, run.start)
    accelerator.wait_for_everyone()  # else a rank might look for units that still count as released
    for run in runs:
        run.track = start_tracking(accelerator, run.config, run.name)
        run.introduce()
    steps, done = runs[0].steps, min(run.done for run in runs)
    bounded = any(run.units.bounded for run in runs)  # its rows may take as long as their producers
    with Progress(steps, "train", "steps", done=done) as progress:
        for step in range(done, steps):
            if not members.going:
                break
            stop.open_vote()
            due = [run for run in members.going if run.done == step]
            others = [run.clock for run in members.going if run not in due]
            begin = watchdog.rest if bounded else watchdog.working_on
            begin(f"step {step + 1}: reading its batch")
            with all_stopped(others), stop.at_once("waiting for rows", all(run.may_end for run in members.going)):
                x = reader.batch(step).to(accelerator.device)
            shown = {run.name: members.attempt(run, run.step, x) for run in due}
            progress.advance(0, **_summary(shown))
            progress.advance(1)
            watchdog.working_on(f"step {step + 1}: agreeing with the other ranks on whether to stop")
            asked = stop.outcome()
            if asked and members.going:
                _pause(members.going, asked, step + 1)
    watchdog.working_on("saving the last checkpoint")
    for run in members.going:
        run.checkpoints.wait_and_free()
    watchdog.rest("making the SAE")
    saved = bool(members.going) and all(run.checkpoints.hold(steps) for run in members.going)
    with stop.at_once("making the SAE", possible=saved):
        for run in [*members.going]:
            members.attempt(run, run.finish)
    members.raise_failures()


def _pause(runs: list[Run], asked: signal.Signals, done: int) -> NoReturn:
    """Leaves a checkpoint behind for each run and ends this process."""
    failures: list[CheckpointFailed] = []
    for run in runs:
        try:
            run.pause()
        except CheckpointFailed as failure:  # alike on all ranks; the others may still be saved
            failures.append(failure)
    if failures:
        raise failures[0]
    say(f"stopped by {asked.name} after {done:,} of {runs[0].steps:,} steps; the same command goes on")
    if asked is signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(STOPPED)


class _Members:
    """Runs of which one may fail without the others, and whose clocks go by turns."""

    def __init__(self, runs: list[Run]) -> None:
        self.going, self._size = runs, len(runs)
        self._failures: dict[str, Diverged | CheckpointFailed] = {}

    def attempt(self, run: Run, action: Callable[..., Result], *arguments: object) -> Result | None:
        """Lets a run act; a member of a sweep that cannot go on leaves, and None is returned."""
        try:
            with all_stopped(other.clock for other in self.going if other is not run):
                return action(*arguments)
        except (Diverged, CheckpointFailed) as error:
            if not run.name:
                raise
            say(f"{run.name}: stopped: {error}; it keeps its checkpoints, the other members go on")
            self._failures[run.name] = error
            self.going.remove(run)
            return None

    def raise_failures(self) -> None:
        """Raises if somebody failed: what may be tried again, if that is all."""
        if self._failures:
            which = "; ".join(f"{name}: {reason}" for name, reason in self._failures.items())
            line = f"{len(self._failures)} of {self._size} members of the sweep stopped: {which}"
            diverged = any(isinstance(reason, Diverged) for reason in self._failures.values())
            raise Diverged(line) if diverged else CheckpointFailed(line)


def _summary(shown: dict[str, Shown | None]) -> Shown:
    """Returns what the bar shows: a run's values, or the best and the worst loss of a sweep."""
    if "" in shown:
        return shown[""] or {}
    losses = {name: float(values["loss"]) for name, values in shown.items() if values}
    if not losses:
        return {}
    best, worst = min(losses, key=losses.__getitem__), max(losses, key=losses.__getitem__)
    return {"loss": f"{losses[best]:.4g} ({best}) to {losses[worst]:.4g} ({worst})"}
