"""How a process leaves a job: together with the others, or alone and at once.

torch's `destroy_process_group` waits for all ranks on NCCL. A rank that leaves with an error must not wait there: the
others are in the middle of a step, and would wait for it. So its process group stays as it is, and the command ends the
process without it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from distsae.errors import DistsaeError
from distsae.training.guards.watchdog import Watchdog

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["leave_together", "leave_with"]

_SECONDS_FOR_WANDB = 10.0


def leave_together(accelerator: Accelerator, watchdog: Watchdog) -> None:
    """Closes wandb and the process group when the work is done. Collective."""
    watchdog.working_on("closing wandb", unlimited=True)
    accelerator.end_training()


def leave_with(
    error: BaseException, accelerator: Accelerator, watchdog: Watchdog, seconds: float = _SECONDS_FOR_WANDB
) -> None:
    """Closes wandb, and nothing else, in a process that ends with an error or by a signal.

    An error of this rank alone is reported only when this function has returned, and until then the other ranks wait
    for this one. So wandb then has a few seconds only; what it has not sent by then stays in its folder.

    Args:
        error: why the process ends.
        accelerator: device and experiment tracking.
        watchdog: watchdog of the process.
        seconds: time that wandb has after an error of this rank alone.
    """
    alike = not isinstance(error, Exception) or (isinstance(error, DistsaeError) and error.of_all_ranks)
    watchdog.working_on("closing wandb", unlimited=alike)
    if alike:
        _close_trackers(accelerator)
        return
    # A daemon: the process may end while wandb still waits for its server.
    closing = threading.Thread(target=_close_trackers, args=(accelerator,), name="closing wandb", daemon=True)
    closing.start()
    closing.join(seconds)


def _close_trackers(accelerator: Accelerator) -> None:
    for tracker in accelerator.trackers:
        tracker.finish()
