"""A producer that sleeps through the end of the job (SIGSTOP; a laptop, a scheduler, a stalled mount) does no harm.

Suspended in the middle of a unit, it looks dead after a while: another takes its unit over, commits it and seals the
store. Woken, it goes on where it was, with an attempt that nobody needs, and must find that out by itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distsae.cli.main import main
from distsae.store.claims import STALE_AFTER
from tests.end_to_end.producers import NO_HARM, Job, committed, compare, read_rows


@pytest.fixture(scope="module")
def job(tiny_model_dir: Path, tiny_corpus: Path) -> Job:
    """Four units of many small chunks, so that writing takes long enough to be caught."""
    return Job(tiny_model_dir, tiny_corpus, {"unit_rows": 4_000, "chunk_rows": 64, "max_rows": 12_000})


@pytest.fixture(scope="module")
def good(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted store."""
    out = tmp_path_factory.mktemp("good") / "store"
    assert main(job.arguments(out)) == 0
    return out


@pytest.mark.parametrize("collected", [False, pytest.param(True, marks=pytest.mark.heavy)], ids=["left", "collected"])
def test_overtaken_while_writing(job, good, tmp_path, collected):
    """With and without `store collect` removing its attempt while it sleeps."""
    out = tmp_path / "store"
    with _producer(job, out) as sleeper:
        attempt = _suspend(sleeper, lambda: _being_written(out))
        assert _overtake(job, out, attempt.parent.name) == 0
        assert attempt.exists()
        if collected:
            assert main(["store", "collect", str(out)]) == 0
            assert not attempt.exists()
        _wakes_and_does_no_harm(sleeper, good, out)
    if collected:  # it may have written into the folder that was removed under its hands
        assert main(["store", "collect", str(out)]) == 0
    assert not attempt.exists()
    assert len(list((out / "data").glob("*/*"))) == len(committed(out))


@pytest.mark.heavy
@pytest.mark.parametrize("phase", ["contexts", "unit-000000", "commit"])
def test_overtaken_in_other_phases(job, good, tmp_path, phase):
    """While it packs the corpus, while it computes the first unit, and between writing a record and publishing it."""
    out = tmp_path / "store"

    def reached() -> Path | None:
        if phase == "commit":
            return next((out / "commits").glob(".unit-*"), None) if (out / "commits").exists() else None
        claim = out / "claims" / phase
        return claim if claim.exists() and claim.stat().st_size and not _being_written(out) else None

    with _producer(job, out) as sleeper:
        stopped_at = _suspend(sleeper, reached)
        claim = stopped_at.name.split(".")[1] if phase == "commit" else phase
        assert _overtake(job, out, claim) == 0
        _wakes_and_does_no_harm(sleeper, good, out)
    assert len(list((out / "data").glob("*/*"))) == len(committed(out))
    assert [path for path in (out / "commits").iterdir() if path.name.startswith(".")] == []


def _being_written(out: Path) -> Path | None:
    """An attempt whose unit is not committed, with some of its files."""
    for attempt in (out / "data").glob("unit-*/*"):
        if not (out / "commits" / f"{attempt.parent.name}.json").exists() and any(attempt.glob("*/c")):
            return attempt
    return None


def _suspend(process: subprocess.Popen[str], reached) -> Path:
    """Stops the process in the phase for which `reached` gives a path, and returns that."""
    while True:
        assert process.poll() is None, "it was finished before it was seen in this phase"
        if reached() is None:
            time.sleep(0.0005)
            continue
        process.send_signal(signal.SIGSTOP)
        while not _sleeps(process):
            assert process.poll() is None, "it was finished before it could be stopped"
            time.sleep(0.0005)
        if (path := reached()) is not None:
            return path
        process.send_signal(signal.SIGCONT)  # it was past it when it stopped; there are more units


def _sleeps(process: subprocess.Popen[str]) -> bool:
    """Whether all threads have stopped; one that waits for the disk does so when it is served."""
    states = [path.read_text() for path in Path(f"/proc/{process.pid}/task").glob("*/stat")]
    return bool(states) and all(state.rpartition(")")[2].split()[0] == "T" for state in states)


def _overtake(job: Job, out: Path, claim: str) -> int:
    """Another producer, when the sleeper's claim has not been renewed for too long."""
    long_ago = time.time() - 2 * STALE_AFTER
    for path in (out / "claims").iterdir():
        os.utime(path, (long_ago, long_ago))
    assert (out / "claims" / claim).exists()
    return main(job.arguments(out))


def _wakes_and_does_no_harm(sleeper: subprocess.Popen[str], good: Path, out: Path) -> None:
    before = _digests(out)
    assert out / "dataset.json" in before
    sleeper.send_signal(signal.SIGCONT)
    _, err = sleeper.communicate(timeout=300)
    assert sleeper.returncode == 0, err
    assert "is finished" in err
    assert _digests(out) == before
    assert compare(read_rows(good), read_rows(out)) == NO_HARM
    assert main(["store", "verify", str(out)]) == 0
    assert list((out / "claims").iterdir()) == []


def _digests(out: Path) -> dict[Path, str]:
    """sha256 of everything that makes the sealed store: records, committed attempts, the tokenised corpus."""
    attempts = [out / "data" / json.loads(record.read_bytes())["attempt"] for record in committed(out)]
    files = [*out.glob("*.json"), *committed(out), *out.glob("contexts/[!.]*/*")]
    files += [file for attempt in attempts for file in attempt.rglob("*") if file.is_file()]
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@contextmanager
def _producer(job: Job, out: Path) -> Iterator[subprocess.Popen[str]]:
    process = job.start(out)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
