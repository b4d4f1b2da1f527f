"""Two ranks hear each other in a real store, and do without one that is not there."""

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


def _rank(monkeypatch, rank, doing, size=2):
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(size))
    return Heartbeats(lambda: (doing[0], doing[1], SINCE), 0.01)


def test_ranks_hear_each_other(store, monkeypatch):
    first, second = ["step 1", False], ["step 2", True]
    ours, theirs = _rank(monkeypatch, 0, first, 3), _rank(monkeypatch, 1, second, 3)
    theirs.heard(PATIENCE)  # its first beat is there
    heard = ours.heard(PATIENCE)
    assert sorted(heard) == [0, 1]  # the third never came
    assert (heard[1].doing, heard[1].resting, heard[1].since) == ("step 2", True, SINCE)
    assert heard[1].at > SINCE
    second[0] = "step 3"
    theirs.heard(PATIENCE)  # may be answered with a beat of before, which was under way
    theirs.heard(PATIENCE)
    again = ours.heard(PATIENCE)[1]
    assert again.doing == "step 3"
    assert again.number > heard[1].number
    theirs.close()
    theirs._thread.join()
    assert ours.heard(PATIENCE)[1] == ours.heard(PATIENCE)[1]  # who is silent stays as it was
    ours.close()


def test_beats_before_a_restart_are_not_heard(store, monkeypatch):
    before = _rank(monkeypatch, 1, ["old", False])
    before.heard(PATIENCE)
    before.close()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    after = _rank(monkeypatch, 0, ["new", False])
    assert list(after.heard(PATIENCE)) == [0]
    after.close()


def test_nobody_to_talk_to(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        lonely = _rank(monkeypatch, 0, ["step 1", False])
        assert lonely.heard(patience=0.2) == {}
        lonely.close()
    alone = _rank(monkeypatch, 0, ["step 1", False], 1)
    assert alone.heard() == {}
