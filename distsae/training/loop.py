"""The training loop: each batch is read once, and every run of the job does an optimizer step on it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, TypeVar

from distsae.batches import BatchReader
from distsae.checkpoint import CheckpointFailed
from distsae.errors import CannotContinue, DistsaeError, Diverged
from distsae.exit_codes import STOPPED
from distsae.progress import Progress, say
from distsae.training.folder import start_tracking
from distsae.training.guards import StopVote, Trouble, Watchdog
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
    """Trains all runs to their end, or until a signal stops the job. Collective.

    Runs may resume from different steps: each joins at the step that it has reached.

    Args:
        runs: runs with the same number of steps and the same batches, not started yet; a member of a sweep that fails
            is removed from the list.
        reader: reader of the batches.
        accelerator: device and experiment tracking.
        stop: vote of all ranks on stopping after a step.
        watchdog: watchdog that ends the process when it makes no progress.

    Raises:
        Diverged: a number of the only run was not finite; in a sweep, a number of some members, which the message
            names, after the others have been trained to their end.
        CheckpointFailed: a checkpoint that had to be on the disk (the last one, one at the end of a window, or one
            before a stop) could not be saved, and no run diverged; or the folder of the run is gone or has become
            read-only.
        DistsaeError: rows cannot be read; a checkpoint was saved first.
        SystemExit: SIGTERM, SIGUSR1 or SIGHUP stopped the job after a checkpoint.
        KeyboardInterrupt: Ctrl-C stopped the job after a checkpoint.
    """
    members = _Members(runs)
    job = runs[0].job
    for run in runs:
        members.attempt(run, run.start)
    job.ranks.exchange(None)  # otherwise a rank might read units that still count as released
    for run in runs:
        run.track = start_tracking(accelerator, run.config, run.name)
        run.introduce()
    steps, done = runs[0].steps, min(run.done for run in runs)
    bounded = any(run.units.bounded for run in runs)  # producers may take any time to write its rows
    with Progress(steps, "train", "steps", done=done) as progress:
        for step in range(done, steps):
            if not members.active:
                break
            due = [run for run in members.active if run.done == step]
            others = [run.clock for run in members.active if run not in due]
            watchdog.working_on(f"step {step + 1}: reading its batch", unlimited=bounded)
            lost: Exception | None = None
            try:
                with all_stopped(others), stop.interruptible("waiting for rows", safe=members.may_end):
                    batch = reader.batch(step).to(accelerator.device)
            except (DistsaeError, OSError) as error:
                lost = error
            trouble = Trouble.FOLDER if any(run.in_trouble for run in members.active) else Trouble.NONE
            stop.open_vote(Trouble.ROWS if lost is not None else trouble)
            if (found := stop.trouble()) is Trouble.ROWS:
                _end_without_rows(members.active, lost, step)
            if found is Trouble.FOLDER:
                for run in [*members.active]:
                    members.attempt(run, run.rescue)
                due = [run for run in due if run in members.active]
            shown = {run.name: members.attempt(run, run.step, batch) for run in due}
            progress.advance(0, **_summary(shown))
            progress.advance(1)
            watchdog.working_on(f"step {step + 1}: agreeing with the other ranks on whether to stop")
            asked = stop.outcome()
            if asked and members.active:
                _pause(members.active, asked, step + 1)
    watchdog.working_on("saving the last checkpoint")
    for run in members.active:
        run.checkpoints.wait_and_free()
    watchdog.working_on("making the SAE", unlimited=True)
    saved = bool(members.active) and all(run.checkpoints.on_disk(steps) for run in members.active)
    with stop.interruptible("making the SAE", safe=lambda: saved):
        for run in [*members.active]:
            members.attempt(run, run.finish)
    members.raise_failures()


def _pause(runs: list[Run], asked: signal.Signals, done: int) -> NoReturn:
    """Saves a checkpoint of each run and ends this process.

    Args:
        runs: runs to save.
        asked: signal that stops the job.
        done: optimizer steps done.
    """
    failures: list[CheckpointFailed] = []
    for run in runs:
        try:
            run.pause()
        except CheckpointFailed as failure:  # all ranks raise it; the other runs may still be saved
            failures.append(failure)
    if failures:
        raise failures[0]
    say(f"stopped by {asked.name} after {done:,} of {runs[0].steps:,} steps; the same command continues")
    if asked is signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(STOPPED)


def _end_without_rows(runs: list[Run], lost: Exception | None, done: int) -> NoReturn:
    """Saves a checkpoint of each run, since the rows of the next step cannot be read, and raises the reason.

    Args:
        runs: runs to save.
        lost: why this rank cannot read its rows; None if it can.
        done: optimizer steps done.
    """
    saved = bool(done)
    for run in runs:
        try:
            run.pause()
        except CheckpointFailed as failure:  # all ranks raise it
            saved = False
            say(f"warning: {failure}")
    kept = f"a checkpoint of step {done:,} is saved, and the same command continues" if saved else "nothing was saved"
    if lost is None:
        raise CannotContinue(f"another rank could not read the rows of step {done + 1:,}; {kept}")
    kind = type(lost) if isinstance(lost, DistsaeError) else CannotContinue
    raise kind(f"the rows of step {done + 1:,} could not be read: {lost}; {kept}") from lost


class _Members:
    """Runs side by side: each may fail alone, and only the clock of the run that acts is running.

    Args:
        runs: runs that have not failed; the list is changed in place.

    Attributes:
        active: runs that have not failed.
    """

    def __init__(self, runs: list[Run]) -> None:
        self.active = runs
        self._size = len(runs)
        self._failures: dict[str, str] = {}  # texts alone: an error would keep the run alive by its traceback
        self._diverged = False

    def may_end(self) -> bool:
        """Returns whether the process may end now, while it waits for rows, as no run would lose anything."""
        return all(run.may_end for run in self.active)

    def attempt(self, run: Run, action: Callable[..., Result], *arguments: object) -> Result | None:
        """Calls an action of a run; if that fails, a member of a sweep is removed, and None is returned.

        Args:
            run: run that acts.
            action: method of the run.
            arguments: arguments of the method.

        Raises:
            Diverged: a number of the only run is not finite.
            CheckpointFailed: a checkpoint of the only run could not be saved.
        """
        try:
            with all_stopped(other.clock for other in self.active if other is not run):
                return action(*arguments)
        except (Diverged, CheckpointFailed) as error:
            if not run.name:
                raise
            say(f"{run.name}: stopped: {error}; its checkpoints stay, and the other members continue")
            self._failures[run.name] = str(error)
            self._diverged |= isinstance(error, Diverged)
            self.active.remove(run)
            return None

    def raise_failures(self) -> None:
        """Raises one error for all members that failed: `Diverged`, or `CheckpointFailed` if none has diverged."""
        if self._failures:
            which = "; ".join(f"{name}: {reason}" for name, reason in self._failures.items())
            line = f"{len(self._failures)} of {self._size} members of the sweep stopped: {which}"
            raise Diverged(line) if self._diverged else CheckpointFailed(line)


def _summary(shown: dict[str, Shown | None]) -> Shown:
    """Returns what the progress bar shows: the values of a run alone, or the best and the worst loss of a sweep."""
    if "" in shown:
        return shown[""] or {}
    losses = {name: float(values["loss"]) for name, values in shown.items() if values}
    if not losses:
        return {}
    best, worst = min(losses, key=losses.__getitem__), max(losses, key=losses.__getitem__)
    return {"loss": f"{losses[best]:.4g} ({best}) to {losses[worst]:.4g} ({worst})"}
