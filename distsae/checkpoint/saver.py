"""Saving while training goes on: the step pays for a copy of the state, a thread does the rest.

At most one save is under way. Whoever asks for the next one waits for it, so that neither copies nor half-written
checkpoints pile up when the disk is slower than training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from distsae.checkpoint.failures import CheckpointFailed
from distsae.checkpoint.ranks import Ranks
from distsae.checkpoint.saving import save_snapshot
from distsae.checkpoint.snapshot import HostCopies, Snapshot
from distsae.checkpoint.state import JSON, Value

__all__ = ["Saver"]


class Saver:
    """Saves one checkpoint after another; every rank makes one and calls it alike.

    Args:
        ranks: that save together, with a group of their own: the thread talks while training does.
        asynchronous: copy the state, on each data rank its share, and write it in a thread. Otherwise `save` returns
            when the checkpoint is there, and no memory is needed.
    """

    def __init__(self, ranks: Ranks, asynchronous: bool) -> None:
        self._ranks, self._asynchronous = ranks, asynchronous
        self._copies = HostCopies()
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._going: Future[None] | None = None

    def save(
        self,
        folder: Path,
        step: int,
        tensors: Mapping[str, Value],
        facts: Mapping[str, JSON],
        ended: Callable[[CheckpointFailed | None], None],
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        """Begins to save a checkpoint, after waiting for the one before; see `distsae.checkpoint.save`. Collective.

        Args:
            folder: `RUN/checkpoints`.
            step: the step that the state belongs to.
            tensors: what to save; they may change as soon as this returns.
            facts: likewise.
            ended: called once on every rank, from another thread, when the checkpoint is published (with None) or has
                failed.
            begun: likewise, before anything is written.
        """
        self.wait()
        snapshot = Snapshot.take(tensors, self._ranks, self._copies if self._asynchronous else None)
        going = self._thread.submit(self._write, folder, step, snapshot, facts, ended, begun)
        if self._asynchronous:
            self._going = going
        else:
            going.result()

    def wait(self) -> None:
        """Returns when nothing is being saved; raises what a save met that is neither full disk nor lost folder."""
        if self._going is not None:
            going, self._going = self._going, None
            going.result()

    def wait_and_free(self) -> None:
        """Waits, and gives the memory of the copies back; the next save takes it anew."""
        try:
            self.wait()
        finally:
            self._copies.free()

    def close(self) -> None:
        """Waits, and ends the thread."""
        try:
            self.wait_and_free()
        finally:
            self._thread.shutdown()

    def _write(
        self,
        folder: Path,
        step: int,
        snapshot: Snapshot,
        facts: Mapping[str, JSON],
        ended: Callable[[CheckpointFailed | None], None],
        begun: Callable[[], None],
    ) -> None:
        begun()
        failure: CheckpointFailed | None = None
        try:
            save_snapshot(folder, step, snapshot, facts, self._ranks)
        except CheckpointFailed as error:
            failure = error
        ended(failure)
