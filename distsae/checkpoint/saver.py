"""Saving while training goes on: training waits for a copy of the state, and a thread writes the copy.

At most one save is under way. The next save waits for it, so that neither copies nor half-written checkpoints pile up
when the disk is slower than training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from distsae.checkpoint.ranks import Ranks
from distsae.checkpoint.saving import save_snapshot
from distsae.checkpoint.snapshot import HostCopies, Snapshot
from distsae.checkpoint.state import JSON, Value
from distsae.errors import CheckpointFailed

__all__ = ["Saver"]


class Saver:
    """Saves one checkpoint after another. Every rank has one and makes the same calls.

    Args:
        ranks: ranks that save together. They need a process group of their own, because the thread runs collectives
            while training runs others.
        asynchronous: whether the state is copied, on each data rank its share, and written while training goes on.
            Otherwise `save` returns when the checkpoint is published, and no memory is needed for a copy.
    """

    def __init__(self, ranks: Ranks, asynchronous: bool) -> None:
        self._ranks = ranks
        self._asynchronous = asynchronous
        self._copies = HostCopies()
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._under_way: Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a save is under way."""
        return self._under_way is not None and not self._under_way.done()

    def save(
        self,
        folder: Path,
        step: int,
        tensors: Mapping[str, Value],
        facts: Mapping[str, JSON],
        ended: Callable[[CheckpointFailed | None], None],
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        """Waits for the previous save, then starts to save a checkpoint; see `distsae.checkpoint.save`. Collective.

        Args:
            folder: folder of checkpoints, `RUN/checkpoints`.
            step: optimizer steps done in this state.
            tensors: tensors to save; they may change as soon as this returns.
            facts: plain values to save, as JSON; they must not change until the save has ended.
            ended: called once on every rank, in the thread, when the checkpoint is published (with None) or has failed
                (with the error).
            begun: called once on every rank, in the thread, before anything is written.
        """
        self.wait()
        snapshot = Snapshot.take(tensors, self._ranks, self._copies if self._asynchronous else None)
        writing = self._thread.submit(self._write, folder, step, snapshot, facts, ended, begun)
        if self._asynchronous:
            self._under_way = writing
        else:
            writing.result()

    def wait(self) -> None:
        """Waits until no save is under way.

        A `CheckpointFailed` has gone to `ended`; any other exception of the save is raised here.
        """
        if self._under_way is not None:
            writing, self._under_way = self._under_way, None
            writing.result()

    def wait_and_free(self) -> None:
        """Waits until no save is under way, and frees the memory of the copies; the next save allocates it again."""
        try:
            self.wait()
        finally:
            self._copies.free()

    def close(self) -> None:
        """Waits until no save is under way, frees the memory of the copies and ends the thread."""
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
