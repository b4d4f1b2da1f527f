"""Heartbeats: each rank's latest report on its own activity, kept in the key-value store of the launcher.

A thread of its own exchanges them, so that neither a stuck collective nor a stuck store blocks the rest of the process.
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

from distsae.environment import launched_processes, whole_number

__all__ = ["Beat", "Heartbeats"]


@dataclass(frozen=True)
class Beat:
    """One heartbeat of a rank.

    Args:
        number: number of the heartbeat, counted by its rank.
        host: host of the rank.
        activity: what the rank was doing.
        unlimited: whether that activity may take any time.
        since: wall clock at the start of the activity.
        at: wall clock of the heartbeat.
    """

    number: int
    host: str
    activity: str
    unlimited: bool
    since: float
    at: float


class Heartbeats:
    """Sends the heartbeats of this rank, and reads those of all ranks on demand.

    Args:
        present: function that returns the activity of this rank, whether it may take any time, and the wall clock at
            its start.
        every: seconds between heartbeats.
        patience: seconds to wait for the store, for one answer.

    Attributes:
        rank: rank of this process.
        size: number of processes of the job.
    """

    def __init__(self, present: Callable[[], tuple[str, bool, float]], every: float, patience: float = 5.0) -> None:
        self._present = present
        self._every = every
        self._patience = patience
        self._number = 0
        self.rank = whole_number("RANK", 0)
        self.size = launched_processes()
        self._stopped = threading.Event()
        self._requested = threading.Event()
        self._answered = threading.Event()
        self._wake = threading.Event()
        self._received: dict[int, Beat] = {}
        # A launcher keeps its store when it restarts the processes.
        self._prefix = f"distsae/heartbeat/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        self._thread = threading.Thread(target=self._exchange, name="heartbeats", daemon=True)
        if self.size > 1 and "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ:
            self._thread.start()

    def latest(self, patience: float | None = None) -> dict[int, Beat]:
        """Returns the latest heartbeat of each rank.

        Args:
            patience: seconds to wait for the answer; by default those of the constructor.

        Returns:
            Heartbeats by rank. Ranks without any are left out; the result is empty if the store cannot be reached.
        """
        self._answered.clear()
        self._requested.set()
        self._wake.set()
        if not self._thread.is_alive() or not self._answered.wait(self._patience if patience is None else patience):
            return {}
        return self._received

    def close(self) -> None:
        """Stops the heartbeats."""
        self._stopped.set()
        self._wake.set()

    def _exchange(self) -> None:
        host = os.environ["MASTER_ADDR"]
        port = whole_number("MASTER_PORT", 0)
        try:
            # TCPStore prints a long warning when the port is closed, so that is found out first.
            socket.create_connection((host, port), self._patience).close()
            store = TCPStore(
                host,
                port,
                is_master=False,
                timeout=timedelta(seconds=self._patience),
                wait_for_workers=False,
            )
            while not self._stopped.is_set():
                self._send(store)
                if self._requested.is_set():
                    self._requested.clear()
                    self._received = self._read(store)
                    self._answered.set()
                self._wake.wait(self._every)
                self._wake.clear()
        except (OSError, dist.DistError, RuntimeError, ValueError):
            return  # the store cannot be reached any more: the process continues without heartbeats

    def _send(self, store: Store) -> None:
        activity, unlimited, since = self._present()
        self._number += 1
        store.set(
            f"{self._prefix}/{self.rank}",
            json.dumps([self._number, platform.node(), activity, unlimited, since, time.time()]),
        )

    def _read(self, store: Store) -> dict[int, Beat]:
        keys = {rank: f"{self._prefix}/{rank}" for rank in range(self.size)}
        return {rank: Beat(*json.loads(store.get(key))) for rank, key in keys.items() if store.check([key])}
