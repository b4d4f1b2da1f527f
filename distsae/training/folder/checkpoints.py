"""The checkpoints of a run: after a save, old ones are deleted; when a save fails, training goes on with a warning."""

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
        config: which checkpoints to keep.
        folder: folder of the run.
        units: units of the store, released after each checkpoint.
        saver: saver of the job, shared by the members of a sweep.
        say: function that prints a line for the user, on the main process only.
        is_main: whether this process is the main one, which alone deletes old checkpoints,
            flushes the metrics and releases units.
    """

    def __init__(
        self,
        config: CheckpointConfig,
        folder: RunFolder,
        units: UnitRelease,
        saver: Saver,
        say: Callable[[str], None],
        *,
        is_main: bool,
    ) -> None:
        self._config = config
        self._folder = folder
        self._units = units
        self._saver = saver
        self._say = say
        self._is_main = is_main
        self._failure: CheckpointFailed | None = None
        self._step_attempted: int | None = None
        self._step_on_disk: int | None = None

    def save(self, done: int, state: State, facts: Mapping[str, JSON]) -> None:
        """Starts to save the state after `done` steps. Collective.

        Raises:
            CheckpointFailed: the save failed at the end of a window of a bounded store, where it is waited for,
                because the producers cannot continue without it.
        """
        self._step_attempted = done
        folder = self._folder.checkpoints
        self._saver.save(folder, done, state, facts, partial(self._ended, done), self._write_metrics)
        if self._units.checkpoint_due(done):
            self.require_saved()

    def resumed(self, done: int) -> None:
        """Records that the run was resumed from a checkpoint of `done` steps, which is therefore on the disk."""
        self._step_attempted = self._step_on_disk = done

    def attempted(self, done: int) -> bool:
        """Returns whether the latest save is of `done` steps: finished, under way or failed."""
        return self._step_attempted == done

    def on_disk(self, done: int) -> bool:
        """Returns whether the latest checkpoint on the disk is of `done` steps; a save under way does not count."""
        return self._step_on_disk == done

    @property
    def hopeless(self) -> bool:
        """Whether the latest save failed and others will: the folder is gone, or has become read-only."""
        return self._failure is not None and self._failure.lasting

    def wait_and_free(self) -> None:
        """Waits until no save is under way, and frees the memory of its copy."""
        self._saver.wait_and_free()

    def require_saved(self) -> None:
        """Waits until the latest state and all lines of metrics are on the disk.

        Raises:
            CheckpointFailed: the state could not be saved.
        """
        self._saver.wait()
        self._write_metrics()
        if self._failure is not None:
            raise self._failure

    def _write_metrics(self) -> None:
        """Flushes the metrics before a checkpoint is written: a resumed run does not write earlier lines again."""
        if self._is_main and (warning := self._folder.metrics.sync()):
            self._say(warning)

    def _ended(self, done: int, failure: CheckpointFailed | None) -> None:
        """Handles the end of a save; called in the thread of the saver."""
        self._failure = failure
        if failure is None:
            self._step_on_disk = done
        if not self._is_main:
            return
        if failure is not None and failure.lasting:
            return  # the loop ends the run with it
        if failure is not None:
            self._say(f"warning: {failure}; training goes on, and tries again at its next checkpoint")
            return
        try:
            prune(self._folder.checkpoints, self._config.keep_last, self._config.keep_every)
        except OSError as error:
            self._say(f"warning: old checkpoints in {self._folder.checkpoints} could not be deleted: {error}")
        try:
            self._units.checkpoint_saved(done)
        except (OSError, DistsaeError) as error:
            self._say(f"warning: units of the store could not be released, the next checkpoint tries again: {error}")
