"""Guards of a training process: it starts like the other ranks, stops on request, and says why when it fails."""

from distsae.training.guards.accelerator import check_processes, longest_wait, set_timeout, start_accelerator
from distsae.training.guards.agreement import require_agreement, require_same_kernels
from distsae.training.guards.diagnosis import Diagnosis
from distsae.training.guards.leaving import leave_together, leave_with
from distsae.training.guards.lost_rank import lost_ranks_named
from distsae.training.guards.main_machine import wait_for_main_machine
from distsae.training.guards.out_of_memory import lack_of_memory_named
from distsae.training.guards.stopping import StopVote, Trouble
from distsae.training.guards.unheard_signal import ended_if_unheard
from distsae.training.guards.watchdog import Watchdog

__all__ = [
    "Diagnosis",
    "StopVote",
    "Trouble",
    "Watchdog",
    "check_processes",
    "ended_if_unheard",
    "lack_of_memory_named",
    "leave_together",
    "leave_with",
    "longest_wait",
    "lost_ranks_named",
    "require_agreement",
    "require_same_kernels",
    "set_timeout",
    "start_accelerator",
    "wait_for_main_machine",
]
