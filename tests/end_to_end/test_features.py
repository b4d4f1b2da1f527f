"""`distsae features` as a user types it: alone, with several processes, and after processes were killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.end_to_end.launching import ENVIRONMENT, launch
from tests.reporting.features.samples import save_random_sae, tree


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mc"
    save_random_sae(folder / "sae")
    return folder


def _words(run, store, out, **changes):
    values = {"store": store, "out": out, "max_rows": 4000, "part_rows": 300, "shard_features": 64, "device": "cpu"}
    values |= {"format": "site,parquet,neuronpedia,saedashboard"} | changes
    return ["features", *(word for name, value in values.items() for word in (f"--{name}", str(value))), str(run)]


def _start(words):
    return subprocess.Popen(
        [sys.executable, "-m", "distsae", *words],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _ended(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def alone(run, tiny_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "pages"
    assert _ended(_start(_words(run, tiny_store, out))) == f"{out}/index.html\n"
    return tree(out)


def test_two_processes_write_the_same_bytes(run, tiny_store, tmp_path, alone):
    words = _words(run, tiny_store, tmp_path / "pages")
    processes = [_start(words), _start(words)]
    for process in processes:
        assert _ended(process) == f"{tmp_path}/pages/index.html\n"
    assert tree(tmp_path / "pages") == alone


@pytest.mark.heavy
def test_under_a_launcher(run, tiny_store, tmp_path, alone):
    words = _words(run, tiny_store, tmp_path / "pages")
    done = launch(words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("index.html") == 1
    assert tree(tmp_path / "pages") == alone


def test_a_killed_process_is_replaced(run, tiny_store, tmp_path, alone):
    out = tmp_path / "pages"
    words = _words(run, tiny_store, out)
    process = _start(words)
    work = out / "unfinished"
    deadline = time.monotonic() + 200
    while len(list(work.glob("part-*.json"))) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    finished = {path.name: path.stat().st_mtime_ns for path in work.glob("part-*.json")}
    assert not (out / "index.html").exists()
    assert not (out / "features.json").exists()
    second = _start(words)
    while not any(work.glob("shard-*.json")) and second.poll() is None:
        kept = {path.name: path.stat().st_mtime_ns for path in list(work.glob("part-*.json")) if path.name in finished}
        assert not kept or kept == finished
        time.sleep(0.002)
    if second.poll() is None:
        os.kill(second.pid, signal.SIGKILL)
    second.communicate()
    _ended(_start(words))
    assert tree(out) == alone
    assert json.loads((out / "features.json").read_text())["facts"]["rows"] == 3999
