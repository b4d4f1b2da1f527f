"""Releases units of a bounded store that a run no longer needs, so that the producers can continue.

A run that is resumed reads on from its checkpoint, so a unit may be released only after a checkpoint that comes behind
it. At the end of each window a checkpoint is due, even between the regular ones: otherwise the producers would wait for
that checkpoint, and training, on its way to the next regular one, would wait for the producers.
"""

from __future__ import annotations

from distsae.batches import StreamOrder
from distsae.errors import WrongInput
from distsae.progress import say
from distsae.store import Store, begin_reading, refuse_other_reader, release, windows

__all__ = ["UnitRelease"]


class UnitRelease:
    """Releases the units of one store for one run; does nothing if the store is not bounded.

    Args:
        store: store that the run reads.
        order: order in which batches are read.
        steps: optimizer steps of the whole run.
        run: name of the run, the only reader of a bounded store.

    Raises:
        WrongInput: a bounded store has too few rows for `steps`, or another run reads it.
    """

    def __init__(self, store: Store, order: StreamOrder, steps: int, run: str) -> None:
        self._store = store
        self._order = order
        self._steps = steps
        self._run = run
        self._windows: tuple[range, ...] = ()
        if store.attributes.keep_units is not None:
            self._windows = windows(store.attributes)
            refuse_other_reader(store.path, run)
        if order.steps is not None and steps > order.steps:
            raise WrongInput(
                f"`steps` (={steps}) must not exceed {order.steps}, the steps that one reading of the bounded store "
                f"{store.path} gives; train for fewer steps, or produce more rows"
            )

    @property
    def bounded(self) -> bool:
        """Whether the store is bounded: it keeps a unit only until the run has read it."""
        return bool(self._windows)

    def start_reading(self, step: int) -> None:
        """Makes the run the reader of the store, from global batch `step` on; only one process calls it."""
        if self._windows and begin_reading(self._store.path, self._run, self._first_unit(step)):
            say(
                f"{self._store.path}: units that this run needs again were released; the store's `distsae produce` "
                "command produces them again"
            )

    def checkpoint_due(self, done: int) -> bool:
        """Returns whether a checkpoint must be saved after `done` steps, because a window ends there."""
        return bool(self._windows) and done < self._steps and self._order.window(done) != self._order.window(done - 1)

    def checkpoint_saved(self, done: int) -> None:
        """Releases the units that a run resumed from the checkpoint of `done` steps does not read.

        After the last step the units of its window stay, because making the SAE may read their rows again.
        """
        if self._windows:
            release(self._store.path, self._run, self._first_unit(min(done, self._steps - 1)))

    def run_finished(self) -> None:
        """Releases the units of all windows that the run has read to their end; a repeated call changes nothing.

        The units of the window in which it stopped stay, because the run may be resumed with more steps.
        """
        if self._windows:
            read_all = self._steps == self._order.steps
            unit = self._windows[-1].stop if read_all else self._first_unit(self._steps)
            release(self._store.path, self._run, unit)

    def _first_unit(self, step: int) -> int:
        return self._windows[self._order.window(step)].start
