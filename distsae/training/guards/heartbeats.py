"""What the ranks of a job last said of themselves, kept in the store that the launcher has for them.

A thread of its own talks to the store: neither a stuck collective nor a stuck store keeps a process from noticing.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist
from torch._C._distributed_c10d import Store, TCPStore

__all__ = ["Beat", "Heartbeats"]

_PATIENCE = 5.0
"""Seconds that the store may take to answer."""


@dataclass(frozen=True)
class Beat:
    """What a rank said last.

    Args:
        number: counts the beats of a rank.
        host: where it is.
        doing: what it was doing.
        resting: nothing of what it was doing needs an end soon.
        since: wall clock at which it began that.
        at: wall clock of the beat.
    """

    number: int
    host: str
    doing: str
    resting: bool
    since: float
    at: float


class Heartbeats:
    """This rank's beats, and those of all ranks on demand.

    Args:
        present: returns what this rank is doing, whether it rests, and since when by the wall clock.
        every: seconds between beats.

    Attributes:
        rank: of this process.
        size: of the job.
    """

    def __init__(self, present: Callable[[], tuple[str, bool, float]], every: float) -> None:
        self._present = present
        self._every = every
        self._number = 0
        self.rank, self.size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self._stopped, self._asked = threading.Event(), threading.Event()
        self._wake = threading.Event()
        self._answered = threading.Event()
        self._heard: dict[int, Beat] = {}
        # A launcher that starts the processes anew keeps its store.
        self._prefix = f"distsae/heartbeat/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        self._thread = threading.Thread(target=self._talk, name="heartbeats", daemon=True)
        if self.size > 1 and "MASTER_PORT" in os.environ:
            self._thread.start()

    def heard(self, patience: float = _PATIENCE) -> dict[int, Beat]:
        """Asks for everyone's last beat.

        Args:
            patience: seconds to wait for the store.

        Returns:
            Beats by rank; those of ranks that never said anything are left out, and all are if the store is out of
            reach.
        """
        self._answered.clear()
        self._asked.set()
        self._wake.set()
        return self._heard if self._thread.is_alive() and self._answered.wait(patience) else {}

    def close(self) -> None:
        """Ends the beats."""
        self._stopped.set()
        self._wake.set()

    def _talk(self) -> None:
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        try:
            socket.create_connection(place, _PATIENCE).close()  # torch would print a page if nobody listens
            store = TCPStore(
                *place,
                is_master=False,
                timeout=timedelta(seconds=_PATIENCE),
                wait_for_workers=False,
            )
            while not self._stopped.is_set():
                self._beat(store)
                if self._asked.is_set():
                    self._asked.clear()
                    self._heard = self._everyones(store)
                    self._answered.set()
                self._wake.wait(self._every)
                self._wake.clear()
        except (OSError, dist.DistError, RuntimeError, ValueError):  # out of reach, or gone: we do without
            return

    def _beat(self, store: Store) -> None:
        doing, resting, since = self._present()
        self._number += 1
        store.set(
            f"{self._prefix}/{self.rank}",
            json.dumps([self._number, platform.node(), doing, resting, since, time.time()]),
        )

    def _everyones(self, store: Store) -> dict[int, Beat]:
        keys = {rank: f"{self._prefix}/{rank}" for rank in range(self.size)}
        return {rank: Beat(*json.loads(store.get(key))) for rank, key in keys.items() if store.check([key])}
