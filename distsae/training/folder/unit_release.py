"""What a run tells a bounded store: which units it is through with.

A unit may go when a checkpoint has been made behind it, because a run that is resumed reads on from its checkpoint.
Producers wait for room, so there is a checkpoint at the end of each window: else rows might wait for a checkpoint that
waits for rows.
"""

from __future__ import annotations

from distsae.batches import StreamOrder
from distsae.errors import WrongInput
from distsae.progress import say
from distsae.store import Store, begin_reading, refuse_other_reader, release, windows

__all__ = ["UnitRelease"]


class UnitRelease:
    """Releases units of `store`; does nothing for a store that keeps all of them.

    Args:
        store: that is read.
        order: of its batches.
        steps: of the run.
        run: name of the run, the one reader of the store.

    Raises:
        WrongInput: a bounded store has not rows enough for `steps`, or another run reads it.
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
                f"`steps` (={steps}) must not exceed {order.steps}, what the bounded store {store.path} gives to one "
                "reading; train for less, or produce more rows"
            )

    @property
    def bounded(self) -> bool:
        """Whether the store keeps units only as long as they are needed."""
        return bool(self._windows)

    def start_reading(self, step: int) -> None:
        """The run reads from global batch `step` on; for one process to say."""
        if self._windows and begin_reading(self._store.path, self._run, self._first_unit(step)):
            say(
                f"{self._store.path}: units that this run needs again were released; the store's `distsae produce` "
                "command produces them again"
            )

    def due(self, done: int) -> bool:
        """Says whether a checkpoint must be made after `done` steps."""
        return bool(self._windows) and done < self._steps and self._order.window(done) != self._order.window(done - 1)

    def saved(self, done: int) -> None:
        """There is a checkpoint of `done` steps; the end of a run may look at the rows of its last window again."""
        if self._windows:
            release(self._store.path, self._run, self._first_unit(min(done, self._steps - 1)))

    def finished(self) -> None:
        """Nothing more is read, unless the run is resumed with more steps; saying it again changes nothing."""
        if self._windows:
            ended = self._steps == self._order.steps
            unit = self._windows[-1].stop if ended else self._first_unit(self._steps)
            release(self._store.path, self._run, unit)

    def _first_unit(self, step: int) -> int:
        return self._windows[self._order.window(step)].start
