"""What the runs of a job share in one process: the store, the mesh, the device and what serves them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distsae.batches import BatchReader
from distsae.checkpoint import Ranks, Saver
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
        store: activation store that all runs read.
        reader: reader of the batches.
        mesh: the mesh, as this rank sees it.
        accelerator: device and experiment tracking.
        heldout: measurement on held-out rows.
        saver: writer of checkpoints.
        ranks: all ranks, on a CPU group without time limit, for what one rank may take any time for. No checkpoint may
            be under way, as the saver uses the same group.
        watchdog: watchdog that ends the process when a step hangs.
    """

    store: Store
    reader: BatchReader
    mesh: Mesh
    accelerator: Accelerator
    heldout: HeldoutCheck
    saver: Saver
    ranks: Ranks
    watchdog: Watchdog
