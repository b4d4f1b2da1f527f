from types import SimpleNamespace

import pytest

from distsae.producer import idle
from distsae.producer.idle import Idle
from distsae.store import begin_reading, begin_store, release, seal_early, units_wanted
from tests.store.synthetic import attributes, write_unit

ATTRS = attributes(contexts=200, keep_units=4)


@pytest.fixture
def clock(monkeypatch):
    """What time it is, as the test says."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(idle, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


@pytest.fixture
def store(tmp_path):
    begin_store(tmp_path, ATTRS)
    for unit in units_wanted(tmp_path, ATTRS):
        write_unit(tmp_path, ATTRS, unit)
    seal_early(tmp_path, ATTRS)
    return tmp_path


def _said(waiting, clock, capsys, *seconds):
    """What is said when `waiting` looks after each of so many seconds."""
    lines = []
    for passed in seconds:
        clock.seconds += passed
        waiting.waits()
        lines.append(capsys.readouterr().err.strip())
    return lines


def test_it_says_so_after_a_while_and_again_now_and_then(store, clock, capsys):
    waiting = Idle(store, ATTRS)
    line = "waiting for a training run to read the store: 4 units are unread"
    assert _said(waiting, clock, capsys, 100, 9, 1, 1, 58, 1, 59, 1) == ["", "", line, "", "", line, "", line]
    waiting.over()
    assert _said(waiting, clock, capsys, 100, 9, 1) == ["", "", line]


def test_it_names_the_run(store, clock, capsys):
    begin_reading(store, "/runs/a", 0)
    release(store, "/runs/a", 1)
    waiting = Idle(store, ATTRS)
    assert _said(waiting, clock, capsys, 0, 10) == ["", "waiting for /runs/a to read on: 3 units are unread"]
