"""Two ranks exchange heartbeats through a real store, and continue without one that cannot be reached."""

from __future__ import annotations

import socket

import pytest
import torch.distributed as dist

from distsae.training.guards.heartbeats import Heartbeats

SINCE = 1000.0
PATIENCE = 60.0


@pytest.fixture
def store(monkeypatch):
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(server.port))
    return server


def _heartbeats(monkeypatch, rank, activity, size=2, patience=PATIENCE):
    """Returns the heartbeats of a rank; `activity` is a list of its name and of whether it is unlimited."""
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(size))
    return Heartbeats(lambda: (activity[0], activity[1], SINCE), 0.01, patience)


def test_ranks_exchange_heartbeats(store, monkeypatch):
    activity = ["step 2", True]
    first = _heartbeats(monkeypatch, 0, ["step 1", False], 3)
    second = _heartbeats(monkeypatch, 1, activity, 3)
    second.latest()  # its first heartbeat has been sent
    found = first.latest()
    assert sorted(found) == [0, 1]  # there is no third process
    assert (found[1].activity, found[1].unlimited, found[1].since) == ("step 2", True, SINCE)
    assert found[1].at > SINCE
    activity[0] = "step 3"
    second.latest()  # may be answered with an earlier heartbeat, which was under way
    second.latest()
    again = first.latest()[1]
    assert again.activity == "step 3"
    assert again.number > found[1].number
    second.close()
    second._thread.join()
    assert first.latest()[1] == first.latest()[1]  # the last heartbeat of a silent rank stays
    first.close()


def test_heartbeats_from_before_a_restart_are_ignored(store, monkeypatch):
    before = _heartbeats(monkeypatch, 1, ["old", False])
    before.latest()
    before.close()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    after = _heartbeats(monkeypatch, 0, ["new", False])
    assert list(after.latest()) == [0]
    after.close()


def test_a_process_without_a_store_has_no_heartbeats(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        unconnected = _heartbeats(monkeypatch, 0, ["step 1", False])
        assert unconnected.latest(patience=0.2) == {}
        unconnected.close()
    alone = _heartbeats(monkeypatch, 0, ["step 1", False], 1)
    assert alone.latest() == {}
