"""`distsae explain` as a user types it: stopped by signals, killed, and started again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.end_to_end.launching import ENVIRONMENT
from tests.reporting.explanations.chat_server import coin, serving
from tests.reporting.explanations.samples import own_pages


def _start(server, pages, out):
    words = ["explain", str(pages), "--endpoint", server.endpoint, "--model", "m", "--out", str(out)]
    return subprocess.Popen(
        [sys.executable, "-m", "distsae", *words, "--concurrency", "3"],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _lines(out):
    path = out / "explanations.jsonl"
    text = path.read_text() if path.exists() else ""
    return {line["feature"]: line for line in map(json.loads, text[: text.rfind("\n") + 1].splitlines())}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    return own_pages(tmp_path_factory.mktemp("pages"), 24)


@pytest.fixture(scope="module")
def whole(pages, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "o"
    with serving(coin) as server:
        process = _start(server, pages, out)
        shown = process.communicate(timeout=120)
        assert process.returncode == 0, shown
        assert len(server.requests) == 24 * 9
    return _lines(out)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGKILL, -9),
        pytest.param(signal.SIGTERM, 75, marks=pytest.mark.heavy),
        pytest.param(signal.SIGHUP, 75, marks=pytest.mark.heavy),
    ],
)
def test_stopped_and_started_again(pages, tmp_path, whole, number, code):
    out = tmp_path / "o"
    with serving(coin, seconds=0.05) as server:
        process = _start(server, pages, out)
        deadline = time.monotonic() + 100
        while len(_lines(out)) < 4:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        shown = process.communicate(timeout=120)
        assert process.returncode == code, shown
    if number is not signal.SIGKILL:
        assert f"stopped by {number.name}: what is done is kept in {out}; the same command goes on" in shown[1]
        assert "Traceback" not in shown[1]
    done = _lines(out)
    assert 4 <= len(done) < 24
    with serving(coin) as server:
        process = _start(server, pages, out)
        shown = process.communicate(timeout=120)
        assert process.returncode == 0, shown
        assert len(server.requests) == (24 - len(done)) * 9
    assert _lines(out) == whole


def test_a_stop_does_not_wait_for_requests_on_their_way(pages, tmp_path):
    with serving(seconds=600) as server:
        process = _start(server, pages, tmp_path / "o")
        while not server.requests:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 75
        process.communicate()
