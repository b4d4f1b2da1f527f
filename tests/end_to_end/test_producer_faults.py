"""`kill -9` at random moments, on three producers that compete for the same store: no row is lost, twice or wrong.

Victims are aimed: each waits for a phase of its work (importing, tokenising, computing, writing, committing, sealing)
and dies at a random moment of it, as far as it can be seen from outside; another takes its place at once.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from distsae.cli.main import main
from distsae.store import Store
from tests.conftest import tiny_documents
from tests.end_to_end.producers import NO_HARM, Harm, Job, Rows, committed, compare, read_rows

PHASES = ("starting", "tokenising", "computing", "writing", "committing", "sealing")

_LONGEST = {
    "starting": 5.0,
    "tokenising": 0.4,
    "computing": 0.15,
    "writing": 0.06,
    "committing": 0.002,
    "sealing": 0.02,
}
"""Seconds that a victim may live on in the phase that it was aimed at."""

_PATIENCE = 3.0
"""Seconds of work after which a victim dies though it was never seen in its phase."""


def phase_of(process: subprocess.Popen[str], store: Path, units: int, old: set[Path]) -> str:
    """What a producer is doing, as its claims and files tell; `old` are the attempts of victims before it."""
    claims = [claim.name for claim in _entries(store / "claims") if _owner(claim) == process.pid]
    if "contexts" in claims:
        return "tokenising"
    for unit in claims:
        if any((store / "commits").glob(f".{unit}.json-*")):
            return "committing"
        if set(_entries(store / "data" / unit)) - old:
            return "writing"
    if claims:
        return "computing"
    return "sealing" if units and len(committed(store)) == units else "starting"


def aims(kills: int, rng: np.random.Generator) -> list[str]:
    """Phases in the order in which kills are dealt: tokenising is over soon, and sealing comes last."""
    first, last = -(-kills // 10), min(3, -(-kills // 10))
    between = rng.choice(PHASES[:1] + PHASES[2:5], kills - first - last, p=[0.2, 0.3, 0.3, 0.2]).tolist()
    return ["tokenising"] * first + between + ["sealing"] * last


class Slot:
    """One of the places at which a producer always runs, until all kills are dealt."""

    def __init__(self, job: Job, store: Path, environment: dict[str, str]) -> None:
        self._job = job
        self._store = store
        self._environment = environment
        self.aim: str | None = None
        self.process: subprocess.Popen[str] | None = None

    def start(self, aim: str | None) -> None:
        self.aim, self.process = aim, self._job.start(self._store, **self._environment)
        self.old = set((self._store / "data").glob("*/*"))
        self.since = time.monotonic()  # it began to work on units
        self.dies: float | None = None

    @property
    def running(self) -> bool:
        """Whether there is a process here that has not ended."""
        return self.process is not None and self.process.poll() is None

    @property
    def survives(self) -> bool:
        """Whether a producer runs here that is to live."""
        return self.process is not None and self.aim is None

    def due(self, units: int, rng: np.random.Generator) -> bool:
        """Whether the victim's moment has come."""
        if self.aim is None or self.process is None or not self.running:
            return False
        now, phase = time.monotonic(), phase_of(self.process, self._store, units, self.old)
        if phase in ("starting", "tokenising"):
            self.since = now
        published = self.aim == "tokenising" and any((self._store / "contexts").glob("[!.]*"))
        impatient = self.aim not in ("tokenising", "sealing") and now - self.since > _PATIENCE
        if self.dies is None and (phase == self.aim or published or impatient):
            self.dies = now + rng.uniform(0, _LONGEST[self.aim])
        return self.dies is not None and now >= self.dies

    @property
    def escaped(self) -> bool:
        """Whether a victim has finished the store before its moment came."""
        return self.process is not None and self.aim is not None and self.process.poll() == 0

    def kill(self, units: int) -> str | None:
        """Kills the victim and says in which phase; None if it has escaped in that very moment."""
        assert self.process is not None
        phase = phase_of(self.process, self._store, units, self.old)
        self.process.send_signal(signal.SIGKILL)
        _, err = self.process.communicate()
        if self.escaped:
            return None
        assert self.process.returncode == -signal.SIGKILL, err
        self.process = None
        return phase


def deal(job: Job, store: Path, units: int, kills: int, ranked: bool, seed: int = 0) -> Counter[str]:
    """Keeps three producers at work until `kills` of them have been killed, and lets one or more finish."""
    rng = np.random.default_rng(seed)
    waiting = aims(kills, rng)
    slots = [Slot(job, store, {"RANK": str(rank), "WORLD_SIZE": "3"} if ranked else {}) for rank in range(3)]
    dealt: Counter[str] = Counter()
    with _none_left(slots):
        for slot in slots:
            slot.start(waiting.pop(0) if waiting else None)
        while any(slot.escaped or slot.running for slot in slots):
            for slot in slots:
                if slot.escaped:
                    slot.start("starting")  # so that all kills are dealt
                elif slot.due(units, rng) and (phase := slot.kill(units)) is not None:
                    dealt[phase] += 1
                    if waiting:
                        slot.start(waiting.pop(0))
                    elif not any(other.survives for other in slots):
                        slot.start(None)
            time.sleep(0.002)
        survivors = [slot.process for slot in slots if slot.process is not None]
        assert survivors
        for process in survivors:
            out, err = process.communicate()
            assert process.returncode == 0, out + err
    return dealt


@pytest.fixture(scope="module")
def job(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """About 220 rows a document: 13 units of 20 thousand rows."""
    return _job(tiny_model_dir, tmp_path_factory, documents=1_200)


@pytest.fixture(scope="module")
def large_job(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """160 units of 20 thousand rows."""
    return _job(tiny_model_dir, tmp_path_factory, documents=14_000)


def test_comparing_finds_what_is_lost_twice_and_wrong():
    good = Rows(np.arange(10)[::-1], np.arange(10)[::-1].astype("<i8").view("V8"))
    assert compare(good, good) == NO_HARM
    key = np.array([0, 1, 2, 2, 2, 4, 5, 6, 7, 99])
    content = np.array([0, 1, 2, 2, 7, 4, 5, 6, 0, 99], "<i8").view("V8")
    assert compare(good, Rows(key, content)) == Harm(lost=3, twice=2, wrong=3)


def test_a_few_kills(job, tmp_path):
    _assert_kills_do_no_harm(job, tmp_path, kills=3, ranked=False)


@pytest.mark.heavy
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("ranked", [False, True], ids=["by hand", "ranks"])
def test_fifty_kills(large_job, tmp_path, ranked):
    dealt = _assert_kills_do_no_harm(large_job, tmp_path, kills=50, ranked=ranked)
    assert all(dealt[phase] for phase in PHASES), dealt


def _assert_kills_do_no_harm(job: Job, folder: Path, kills: int, ranked: bool) -> Counter[str]:
    assert main(job.arguments(folder / "good")) == 0
    good, killed = read_rows(folder / "good"), folder / "killed"
    units = len(committed(folder / "good"))
    assert len(np.unique(good.key)) == len(good.key)

    start = time.monotonic()
    dealt = deal(job, killed, units, kills, ranked)
    seconds = time.monotonic() - start
    assert dealt.total() == kills
    attempts = len(list((killed / "data").glob("*/*")))
    harm = compare(good, read_rows(killed))
    how = "with ranks" if ranked else "started by hand"
    print(f"\n{kills} kills of producers {how}, {dict(dealt)}, in {seconds:.0f} s")
    print(f"{len(good.key):,} rows in {units} units, {attempts} attempts: {harm}")
    assert harm == NO_HARM

    assert main(["store", "verify", str(killed)]) == 0
    assert main(["store", "collect", str(killed)]) == 0
    named = {json.loads(record.read_bytes())["attempt"] for record in committed(killed)}
    assert {str(path.relative_to(killed / "data")) for path in (killed / "data").glob("*/*")} == named
    assert (killed / "dataset.json").read_bytes() == (folder / "good" / "dataset.json").read_bytes()
    assert Store.open(killed).rows + Store.open(killed).heldout_rows == len(good.key)
    return dealt


def _job(model: Path, factory: pytest.TempPathFactory, documents: int) -> Job:
    corpus = factory.mktemp("corpus") / "many.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in tiny_documents(documents)))
    return Job(model, corpus)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _owner(claim: Path) -> int | None:
    try:
        return int(json.loads(claim.read_bytes())["pid"])
    except (FileNotFoundError, ValueError):
        return None


@contextmanager
def _none_left(slots: list[Slot]) -> Iterator[None]:
    """Ends what still runs when a test fails."""
    try:
        yield
    finally:
        for slot in slots:
            if slot.process is not None and slot.process.poll() is None:
                slot.process.kill()
                slot.process.communicate()
