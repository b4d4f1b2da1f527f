"""What all runs of a job share in one process: where it reads and computes, and what watches over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distsae.batches import BatchReader
from distsae.checkpoint import Saver
from distsae.parallel import Mesh
from distsae.store import Store
from distsae.training.freezing import HeldoutCheck
from distsae.training.guards import Watchdog

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Job"]


@dataclass(frozen=True)
class Job:
    """One process's part of a job.

    Args:
        store: store that they read.
        reader: reader of their batches.
        mesh: the mesh, as this rank sees it.
        accelerator: device and tracking.
        heldout: measurements on held-out rows.
        saver: writer of checkpoints.
        watchdog: ends the process when a step hangs.
    """

    store: Store
    reader: BatchReader
    mesh: Mesh
    accelerator: Accelerator
    heldout: HeldoutCheck
    saver: Saver
    watchdog: Watchdog
