"""What all runs of a job share in one process: where it reads, where it computes, and who looks after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distsae.batches import BatchReader
from distsae.checkpoint import Saver
from distsae.parallel import Mesh
from distsae.store import Store
from distsae.training.freezing.heldout_check import HeldoutCheck
from distsae.training.guards.watchdog import Watchdog

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Job"]


@dataclass(frozen=True)
class Job:
    """One process's part of a job.

    Args:
        store: that it reads.
        reader: of its batches.
        mesh: this process's place.
        accelerator: device and tracking.
        heldout: measures on held-out rows.
        saver: of checkpoints.
        watchdog: hears what is begun.
    """

    store: Store
    reader: BatchReader
    mesh: Mesh
    accelerator: Accelerator
    heldout: HeldoutCheck
    saver: Saver
    watchdog: Watchdog
