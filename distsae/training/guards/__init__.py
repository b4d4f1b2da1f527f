"""Being a good process: launched as asked, in agreement with the others, stopped when asked, never silent."""

from distsae.training.guards.accelerator import check_processes, longest_wait, start_accelerator, wait_for
from distsae.training.guards.agreement import require_agreement
from distsae.training.guards.diagnosis import Diagnosis
from distsae.training.guards.lost_rank import lost_ranks_named
from distsae.training.guards.stopping import StopVote
from distsae.training.guards.watchdog import Watchdog

__all__ = [
    "Diagnosis",
    "StopVote",
    "Watchdog",
    "check_processes",
    "longest_wait",
    "lost_ranks_named",
    "require_agreement",
    "start_accelerator",
    "wait_for",
]
