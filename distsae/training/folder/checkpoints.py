"""A run's checkpoints: when one is done old ones may go, and when one fails the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from distsae.checkpoint import JSON, CheckpointConfig, CheckpointFailed, Saver, State, prune
from distsae.errors import DistsaeError
from distsae.training.folder.run_folder import RunFolder
from distsae.training.folder.unit_release import UnitRelease

__all__ = ["RunCheckpoints"]


class RunCheckpoints:
    """Saves the states of one run.

    Args:
        config: which to keep.
        folder: of the run.
        units: hear of each checkpoint.
        saver: of the job, which the members of a sweep share.
        say: tells people, on the main process only.
        tidies: whether this process looks after what all of them share.
    """

    def __init__(
        self,
        config: CheckpointConfig,
        folder: RunFolder,
        units: UnitRelease,
        saver: Saver,
        say: Callable[[str], None],
        *,
        tidies: bool,
    ) -> None:
        self._config = config
        self._folder = folder
        self._units = units
        self._saver = saver
        self._say, self._tidies = say, tidies
        self._failure: CheckpointFailed | None = None
        self._attempted: int | None = None
        self._held: int | None = None

    def save(self, done: int, state: State, facts: Mapping[str, JSON]) -> None:
        """Begins to save the state after `done` steps. Collective.

        Raises:
            CheckpointFailed: at the end of a window of a bounded store, whose producers wait for the checkpoint.
        """
        self._attempted = done
        folder = self._folder.checkpoints
        self._saver.save(folder, done, state, facts, partial(self._ended, done), self._write_metrics)
        if self._units.due(done):
            self.require()

    def resumed(self, done: int) -> None:
        """There is a checkpoint of `done` steps already."""
        self._attempted = self._held = done

    def attempted(self, done: int) -> bool:
        """Says whether the last state that was saved, or is being saved, or could not be, is that of `done` steps."""
        return self._attempted == done

    def hold(self, done: int) -> bool:
        """Says whether the last state on the disk is that of `done` steps; a save under way does not count."""
        return self._held == done

    def wait_and_free(self) -> None:
        """Returns when the last save has ended, and its memory is free."""
        self._saver.wait_and_free()

    def require(self) -> None:
        """Returns when the last state and the lines logged so far are on the disk.

        Raises:
            CheckpointFailed: the state could not be saved.
        """
        self._saver.wait()
        self._write_metrics()
        if self._failure is not None:
            raise self._failure

    def _write_metrics(self) -> None:
        """Lines that a checkpoint is behind must outlast it; a resumed run does not write them again."""
        if self._tidies and (warning := self._folder.metrics.sync()):
            self._say(warning)

    def _ended(self, done: int, failure: CheckpointFailed | None) -> None:
        self._failure = failure
        if failure is None:
            self._held = done
        if not self._tidies:
            return
        if failure is not None:
            self._say(f"warning: {failure}; training goes on, and tries again at its next checkpoint")
            return
        try:
            prune(self._folder.checkpoints, self._config.keep_last, self._config.keep_every)
        except OSError as error:
            self._say(f"warning: old checkpoints of {self._folder.checkpoints} could not be deleted: {error}")
        try:
            self._units.saved(done)
        except (OSError, DistsaeError) as error:
            self._say(f"warning: the store was not told what has been read, it hears with the next checkpoint: {error}")
