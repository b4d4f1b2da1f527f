"""One producer among others, and what it leaves behind when it is stopped."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import pytest

from distsae.language_model import find_model, load_language_model
from distsae.producer import ProduceConfig, produce
from distsae.producer.producer_rank import ProducerRank
from distsae.producer.status import store_status
from distsae.producer.stopping import Stop
from distsae.producer.tokenised import tokenised_corpus
from distsae.producer.unit_loop import produce_units
from distsae.store import (
    Claims,
    Store,
    StorePaths,
    begin_store,
    collect_orphans,
    committed_units,
    read_attributes,
    release,
    verify_store,
)
from distsae.store.commit import commit_unit
from distsae.store.writer import write_attempt
from distsae.text.tokens import tokenised_documents

UNITS = 14


@pytest.fixture(scope="module")
def config(tiny_model_dir, tiny_corpus, tmp_path_factory):
    return ProduceConfig(
        model=str(tiny_model_dir),
        corpus=str(tiny_corpus),
        hooks=("blocks.1.resid_pre",),
        out=str(tmp_path_factory.mktemp("stores") / "whole"),
        context_length=32,
        max_rows=9000,
        unit_rows=700,
        chunk_rows=256,
        batch_contexts=8,
        device="cpu",
    )


@pytest.fixture(scope="module")
def whole(config):
    produce(config)
    return Store.open(config.out)


class _Job:
    """An empty store with its model and contexts; `forwards` counts the forward passes of the model."""

    def __init__(self, root, whole, config, **changes):
        self.root, self.attributes = root, replace(read_attributes(whole.path), **changes)
        begin_store(root, self.attributes)
        self.language_model = load_language_model(config.model)
        with Claims(StorePaths(whole.path).claims) as claims:
            self.contexts = tokenised_corpus(config, find_model(config.model), whole.path, claims).contexts
        self.forwards = 0
        self.language_model.model.register_forward_pre_hook(self._count)
        self.on_forward = lambda number: None

    def _count(self, *_):
        self.forwards += 1
        self.on_forward(self.forwards)

    def run(self):
        with Stop(lambda: "") as stop, Claims(StorePaths(self.root).claims) as claims:
            producer = ProducerRank(0, 1, 0)
            produce_units(self.root, self.attributes, self.contexts, self.language_model, claims, producer, stop)

    def claims(self):
        return [path.name for path in StorePaths(self.root).claims.iterdir()]


@pytest.fixture
def job(tmp_path, whole, config):
    return _Job(tmp_path, whole, config)


@pytest.fixture
def bounded(tmp_path, whole, config):
    return _Job(tmp_path, whole, config, keep_units=4)


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_ends_the_work_after_the_forward_pass(job, whole, number, raised):
    per_unit = 3  # forward passes; 22 contexts in batches of 8
    job.on_forward = lambda forward: os.kill(os.getpid(), number) if forward == 2 * per_unit + 2 else None
    with pytest.raises(raised):
        job.run()
    assert job.forwards == 2 * per_unit + 2
    assert committed_units(job.root, UNITS) == {0, 1}  # unit 1 was being written
    assert job.claims() == []
    assert collect_orphans(job.root) == (0, 0, 0)
    job.on_forward = lambda forward: None
    job.run()
    total = (UNITS - 1) * per_unit + 1  # the held-out unit is one batch
    assert job.forwards == total + 2  # only the two passes of the dropped unit were repeated
    digests = [read_digest(job.root, unit) for unit in range(UNITS)]
    assert digests == [unit.digest for unit in whole.units]


def read_digest(root, unit):
    from distsae.store.json_files import read_json

    return read_json(StorePaths(root).commit(unit))["digest"]


def test_a_unit_stays_claimed_until_it_is_committed(job, monkeypatch):
    from distsae.producer import unit_writer

    claimed = []

    def commit(root, record, commit_unit=commit_unit):
        claimed.append(f"unit-{record.index:06d}" in job.claims())
        return commit_unit(root, record)

    monkeypatch.setattr(unit_writer, "commit_unit", commit)
    job.run()
    assert claimed == [True] * UNITS
    assert job.claims() == []


def test_the_commit_record_of_a_single_unit_is_looked_up_only_after_its_claim(job, monkeypatch):
    """Each look-up is a request to an object store."""
    from distsae.producer import unit_loop

    looked_up = []

    class Watched(StorePaths):
        def commit(self, unit):
            looked_up.append(unit)
            return super().commit(unit)

    monkeypatch.setattr(unit_loop, "StorePaths", Watched)
    job.run()
    assert sorted(looked_up) == list(range(UNITS))


def test_a_bounded_store_is_sealed_as_early_as_possible_and_then_waits_for_a_reader(bounded, monkeypatch):
    from distsae.producer import unit_loop, unit_writer, waiting_report

    commits, lines = [], []

    def commit(root, record, commit_unit=commit_unit):
        commits.append((record.index, StorePaths(root).dataset.exists()))
        return commit_unit(root, record)

    def say(line):
        lines.append(line)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(unit_writer, "commit_unit", commit)
    monkeypatch.setattr(unit_loop, "WaitingReport", partial(waiting_report.WaitingReport, first_after=0.0))
    monkeypatch.setattr(waiting_report, "say", say)
    with pytest.raises(SystemExit):
        bounded.run()
    heldout = UNITS - 1
    assert commits == [(0, False), (1, False), (heldout, False), (2, True), (3, True)]
    assert lines == ["waiting for a training run to read the store: 4 units are unread"]


def test_a_unit_that_is_committed_after_it_was_read_and_released_is_removed(bounded, monkeypatch):
    """As if, before each write, another process had committed the unit and the reader had read it."""
    from distsae.producer import unit_writer

    late = []

    def write_late(root, attributes, unit, *rest):
        if 2 <= unit < UNITS - 1:
            release(root, "a run", unit + 1)
            late.append(unit)
        return write_attempt(root, attributes, unit, *rest)

    monkeypatch.setattr(unit_writer, "write_attempt", write_late)
    bounded.run()
    assert UNITS - 2 in late
    assert committed_units(bounded.root, UNITS) == {UNITS - 1}
    assert [path.name for path in StorePaths(bounded.root).data.iterdir()] == [f"unit-{UNITS - 1:06d}"]


def test_an_error_while_writing_ends_the_work(job, monkeypatch):
    from distsae.errors import TornData
    from distsae.producer import unit_writer

    def torn(*args):
        raise TornData("chunk 7 reads back differently")

    monkeypatch.setattr(unit_writer, "write_attempt", torn)
    with pytest.raises(TornData, match="chunk 7"):
        job.run()
    assert job.forwards <= 6  # at most one more unit was computed in the meantime
    assert job.claims() == []


def test_activations_that_cannot_be_stored_end_the_work_and_committed_units_stay(job):
    from distsae.errors import CannotContinue

    def spoil(forward):
        if forward == 4:
            job.language_model.model.transformer.h[0].mlp.c_proj.bias.data[0] = float("nan")

    job.on_forward = spoil
    with pytest.raises(CannotContinue, match="infinities or NaNs"):
        job.run()
    assert committed_units(job.root, UNITS) == {0}
    assert job.claims() == []
    assert collect_orphans(job.root) == (0, 0, 0)


def test_a_signal_while_tokenising_loses_nothing(whole, config, tmp_path, monkeypatch, capsys):
    from distsae.producer import tokenised

    tokenise = partial(tokenised_documents, documents_at_once=5)

    def stopped(*args, **options):
        for batch in tokenise(*args, **options):
            yield batch
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(tokenised, "tokenised_documents", stopped)
    with pytest.raises(SystemExit) as caught:
        produce(replace(config, out=str(tmp_path)))
    assert caught.value.code == 143
    last = capsys.readouterr().err.splitlines()[-1]
    assert (found := re.fullmatch(r"stopped by SIGTERM: (.*) tokens are kept; the same command continues", last))
    status = store_status(tmp_path)
    assert (status.state, status.units, f"{status.tokens_kept:,}") == ("waiting", 0, found[1])
    assert collect_orphans(tmp_path) == (0, 0, 0)
    monkeypatch.undo()
    produce(replace(config, out=str(tmp_path)))
    said = capsys.readouterr().err
    assert f"from document 5 on; {found[1]} tokens were kept" in said
    assert Store.open(tmp_path).content_digest == whole.content_digest
    assert list((tmp_path / "contexts").glob(".*")) == []


def test_sigterm_stops_the_command_and_the_same_command_continues(whole, config, tmp_path):
    """A real process, stopped as a scheduler stops it."""
    shared = replace(config, out=str(tmp_path / "store"))
    names = ("model", "corpus", "out", "context_length", "max_rows", "unit_rows", "chunk_rows", "batch_contexts")
    options = [part for name in names for part in (f"--{name}", str(getattr(shared, name)))]
    command = [sys.executable, "-m", "distsae", "produce", *options, "--hooks", "[blocks.1.resid_pre]"]
    commits = tmp_path / "store" / "commits"
    with Claims(tmp_path / "store" / "claims") as claims:
        assert claims.take(f"unit-{UNITS - 1:06d}")  # held until the end, so that the store cannot be finished before
        process = subprocess.Popen(
            [*command, "--device", "cpu"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        while not (commits.is_dir() and any(commits.glob("unit-*.json"))):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        lines = process.communicate(timeout=120)[1].splitlines()
    assert process.returncode == 143
    done = len(list(commits.glob("*")))
    assert 0 < done < UNITS
    assert lines[-1] == f"stopped by SIGTERM: {done} of {UNITS} units are committed; the same command continues"
    assert not any("Traceback" in line for line in lines)
    assert list((tmp_path / "store" / "claims").iterdir()) == []
    assert list((tmp_path / "store").rglob(".*")) == []
    assert collect_orphans(tmp_path / "store") == (0, 0, 0)
    produce(shared)
    again = Store.open(shared.out)
    assert again.content_digest == whole.content_digest
    assert verify_store(again) == []
