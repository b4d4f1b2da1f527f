"""Collectives that are wrong or do not come about fail the check."""

import json

import pytest

from distsae.recipes.check.groups import groups_found
from distsae.recipes.check.launched import Launched

LINE = {"backend": "nccl", "processes": 2, "sum_bytes_per_s": 2e9, "sum_latency_s": 3e-5}


def _with(monkeypatch, problem="", output=""):
    monkeypatch.setattr("distsae.recipes.check.groups.run_launched", lambda *given: Launched(problem, output))
    return groups_found(2, 10)


def test_two_real_processes():
    found = groups_found(2, 240)
    assert found.state == "ok", found.text
    assert found.figures["sum_bytes_per_s"] > 0
    assert 0 < found.figures["sum_latency_s"] < 1


def test_one_process_is_skipped():
    assert groups_found(1, 10).state == "skipped"


@pytest.mark.parametrize(
    ("problem", "output", "text"),
    [
        ("it did not end within 10 s", "", "did not end within 10 s"),
        ("it ended with 1", json.dumps({"wrong": ["sum of nccl"], **LINE}), "a wrong result from sum of nccl"),
        ("", "nothing of use", "it said nothing"),
    ],
)
def test_failures_are_told(monkeypatch, problem, output, text):
    found = _with(monkeypatch, problem, output)
    assert found.state == "failed"
    assert text in found.text


def test_a_good_line(monkeypatch):
    found = _with(monkeypatch, "", "noise\n" + json.dumps({"wrong": [], **LINE}))
    assert (found.state, found.figures) == ("ok", LINE)
    assert "gloo and nccl; 2 GB/s" in found.text
    assert found.text.endswith("64 MiB, 30 us at least")
