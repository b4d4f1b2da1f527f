"""The machines of a stream that takes several: each runs the same command, and their trainers are one job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distsae.recipes.local_launch import threads_of_a_process

__all__ = ["Machines"]


@dataclass(frozen=True)
class Machines:
    """Where the trainers of all machines meet.

    Args:
        number: number of machines, at least 2.
        rank: rank of this machine.
        address: address of the machine with rank 0.
        port: port there.
    """

    number: int
    rank: int
    address: str
    port: int

    def launch_words(self, processes: int, beside: int = 0) -> Sequence[str]:
        """Returns the options of `accelerate launch` for the trainers of this machine.

        Args:
            processes: number of processes on each machine.
            beside: number of processes of another launch that share the cores of this machine.
        """
        options = {
            "num_machines": self.number,
            "num_processes": self.number * processes,
            "machine_rank": self.rank,
            "main_process_ip": self.address,
            "main_process_port": self.port,
            "rdzv_backend": "static",  # a lost machine ends the job, which is then started again on all of them
            "num_cpu_threads_per_process": threads_of_a_process(processes + beside),
            "mixed_precision": "no",
            "dynamo_backend": "no",
        }
        return ["--multi_gpu", *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
