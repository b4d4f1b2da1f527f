from types import SimpleNamespace

import pytest

from distsae.producer import waiting_report
from distsae.producer.waiting_report import WaitingReport
from distsae.store import begin_reading, begin_store, release, seal_early, units_wanted
from tests.store.synthetic import attributes, write_unit

ATTRS = attributes(contexts=200, keep_units=4)


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(waiting_report, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


@pytest.fixture
def store(tmp_path):
    begin_store(tmp_path, ATTRS)
    for unit in units_wanted(tmp_path, ATTRS):
        write_unit(tmp_path, ATTRS, unit)
    seal_early(tmp_path, ATTRS)
    return tmp_path


def _printed(waiting, clock, capsys, *seconds):
    """Returns what is printed when the producer waits, after each of these numbers of seconds."""
    lines = []
    for passed in seconds:
        clock.seconds += passed
        waiting.no_room()
        lines.append(capsys.readouterr().err.strip())
    return lines


def test_a_line_is_printed_after_a_while_and_repeated(store, clock, capsys):
    waiting = WaitingReport(store, ATTRS)
    line = "waiting for a training run to read the store: 4 units are unread"
    assert _printed(waiting, clock, capsys, 100, 9, 1, 1, 58, 1, 59, 1) == ["", "", line, "", "", line, "", line]
    waiting.reset()
    assert _printed(waiting, clock, capsys, 100, 9, 1) == ["", "", line]


def test_the_line_names_the_run_that_reads(store, clock, capsys):
    begin_reading(store, "/runs/a", 0)
    release(store, "/runs/a", 1)
    waiting = WaitingReport(store, ATTRS)
    assert _printed(waiting, clock, capsys, 0, 10) == ["", "waiting for /runs/a to read on: 3 units are unread"]
