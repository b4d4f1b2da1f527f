"""A resumed run appends after the lines of its checkpoint, and a full disk loses no line."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from distsae.training.folder.metrics_file import MetricsFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def _steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_lines_after_the_checkpoint_are_dropped(path):
    MetricsFile(path).keep_until(4)  # a new run has no file yet
    metrics = MetricsFile(path)
    for step in range(1, 7):
        assert metrics.append({"step": step, "loss": 1 / step}) == ""
    with path.open("a") as end:
        end.write('{"step": 7, "lo')  # a kill in the middle of a line
    resumed = MetricsFile(path)
    resumed.keep_until(4)
    resumed.append({"step": 5, "loss": 0.0})
    resumed.sync()
    assert _steps(path) == [1, 2, 3, 4, 5]
    assert json.loads(path.read_text().splitlines()[3]) == {"step": 4, "loss": 0.25}
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_loses_no_line(path):
    metrics = MetricsFile(path)
    metrics.append({"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, before[1]))  # room for a part of the line
    try:
        assert "could not be written ([Errno 27] File too large" in metrics.append({"step": 2})
        assert metrics.append({"step": 3}) == ""  # the warning comes once
        assert _steps(path) == [1]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert metrics.append({"step": 4}) == ""
    assert metrics.append({"step": 5}) == ""
    assert _steps(path) == [1, 2, 3, 4, 5]
