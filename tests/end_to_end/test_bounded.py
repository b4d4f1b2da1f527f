"""Producers and a run that share a store of few units: the disk stays bounded, kills cost nothing, rows come once."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
import torch

from distsae import SAE
from distsae.cli.main import main
from distsae.exit_codes import STOPPED
from distsae.store import Store, committed_units, reading, unit_sizes
from tests.conftest import tiny_documents
from tests.end_to_end.hold import Hold
from tests.end_to_end.launching import launch, train_words
from tests.end_to_end.producers import Job, run_distsae, start_distsae

KEEP = 4
HOOK = "blocks.1.resid_post"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in tiny_documents(600, seed=3)))
    return path


def _job(model: Path, corpus: Path, **changes: object) -> Job:
    settings = {"hooks": f"[{HOOK}]", "context_length": 32, "unit_rows": 1500, "chunk_rows": 256, "max_rows": 24_000}
    return Job(model, corpus, settings | changes)


def _train(store: Path, out: Path, **changes: object) -> list[str]:
    values = {
        "store": store,
        "out": out,
        "batch_tokens": 256,
        "sae.d_sae": 64,
        "sae.k": 4,
        "finetune_fc_from": 0.5,
        "wandb": "off",
        "log_every": 1,
        "checkpoint.every": 50,
    } | changes
    return train_words(values)


@pytest.fixture(scope="module")
def undisturbed(tiny_model_dir, corpus, tmp_path_factory):
    """A run beside a producer that nobody kills: its folder, and the most units that were seen on disk."""
    folder = tmp_path_factory.mktemp("undisturbed")
    producer = _job(tiny_model_dir, corpus, keep_units=KEEP).start(folder / "store")
    store = _opened(folder / "store", producer)
    run = start_distsae(_train(folder / "store", folder / "run"))
    most = 0
    while run.poll() is None:
        most = max(most, len(list((folder / "store" / "data").glob("unit-*"))))
        time.sleep(0.02)
    _, err = run.communicate()
    assert run.returncode == 0, err
    producer.communicate(timeout=300)
    assert producer.returncode == 0
    assert committed_units(store.path, len(unit_sizes(store.attributes))) == {len(unit_sizes(store.attributes)) - 1}
    return folder, most


def _opened(path: Path, producer) -> Store:
    """The store as soon as it can be read."""
    while not (path / "dataset.json").exists():
        assert producer.poll() is None, producer.communicate()
        time.sleep(0.05)
    return Store.open(path)


def test_the_disk_stays_bounded_while_all_rows_are_read(undisturbed):
    folder, most = undisturbed
    store = Store.open(folder / "store")
    units = len(unit_sizes(store.attributes))
    assert units > 3 * KEEP
    # Those that may be kept, the held-out one, and, while they are removed, those of a window just released.
    assert KEEP <= most <= KEEP + 1 + KEEP // 2
    lines = _metrics(folder / "run")
    assert len(lines) * 256 > 0.8 * store.rows
    assert reading(folder / "store") == (units - 1, str((folder / "run").resolve()))


def test_a_finished_run_that_is_started_again_has_nothing_to_do(undisturbed):
    """Its rows are gone, and nobody is there to produce them again."""
    folder = undisturbed[0]
    files = [folder / "store" / "reading.json", *(folder / "run" / "sae").iterdir(), folder / "run" / "metrics.jsonl"]
    before = [(file.read_bytes(), file.stat().st_mtime_ns) for file in files]
    again = run_distsae(_train(folder / "store", folder / "run"))
    assert again.returncode == 0, again.stderr
    assert f"{folder / 'run'} is finished: nothing to do" in again.stderr
    assert [(file.read_bytes(), file.stat().st_mtime_ns) for file in files] == before


def test_the_plan_of_its_rows_is_that_of_a_store_that_keeps_everything(undisturbed, tiny_model_dir, corpus, tmp_path):
    whole = tmp_path / "whole"
    assert main(_job(tiny_model_dir, corpus).arguments(whole)) == 0
    bounded, all_kept = Store.open(undisturbed[0] / "store"), Store.open(whole)
    assert bounded.chunks() == all_kept.chunks()
    assert (bounded.rows, bounded.heldout_rows) == (all_kept.rows, all_kept.heldout_rows)
    assert torch.equal(bounded.heldout_contexts(), all_kept.heldout_contexts())


def test_killed_producers_and_runs_change_nothing(undisturbed, tiny_model_dir, corpus, tmp_path):
    """Both are killed twice at odd moments and started again; the weights are those of the undisturbed run."""
    job = _job(tiny_model_dir, corpus, keep_units=KEEP)
    store, out = tmp_path / "store", tmp_path / "run"
    steps = len((undisturbed[0] / "run" / "metrics.jsonl").read_text().splitlines())
    producer, hold = job.start(store), Hold(tmp_path, before=steps - 1)
    _opened(store, producer)
    for share in (0.25, 0.65):
        run = start_distsae(_train(store, out), **hold.environment)
        while _steps_done(out) < share * steps:
            assert run.poll() is None, run.communicate()
            time.sleep(0.01)
        for process in (producer, run):
            process.send_signal(signal.SIGKILL)
            process.communicate()
        producer = job.start(store)
    done = run_distsae(_train(store, out))
    assert done.returncode == 0, done.stderr
    assert "resumed from" in done.stderr
    producer.communicate(timeout=300)
    assert producer.returncode == 0
    ours, other = SAE.load(out / "sae"), SAE.load(undisturbed[0] / "run" / "sae")
    for name, value in ours.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert (out / "metrics.jsonl").read_text().count("\n") == steps


def test_a_run_that_waits_for_rows_stops_when_asked(undisturbed, tiny_model_dir, corpus, tmp_path):
    """Its producer is gone: it would wait for ever. It has a checkpoint of the window that it has read."""
    store, out = tmp_path / "store", tmp_path / "run"
    producer = _job(tiny_model_dir, corpus, keep_units=KEEP).start(store)
    _opened(store, producer)
    while len(list((store / "commits").glob("unit-*.json"))) < KEEP:
        assert producer.poll() is None, producer.communicate()
        time.sleep(0.01)
    producer.send_signal(signal.SIGKILL)
    producer.communicate()
    run = start_distsae(_train(store, out))
    assert run.stderr is not None
    said = ""
    while "waiting for unit" not in said:
        line = run.stderr.readline()
        assert line, said
        said += line
    run.send_signal(signal.SIGTERM)
    said += run.communicate(timeout=300)[1]
    assert run.returncode == STOPPED, said
    assert "stopped by SIGTERM while waiting for rows; the same command continues" in said
    assert (out / "checkpoints" / "latest").read_text() == f"step-{_steps_done(out):08d}\n"


@pytest.mark.heavy
@pytest.mark.parametrize("mesh", [{"mesh.feature": 2}, {"mesh.data": 2}], ids=["1x2", "2x1"])
def test_two_processes_read_it_as_one_does(mesh, undisturbed, tiny_model_dir, corpus, tmp_path):
    store, out = tmp_path / "store", tmp_path / "run"
    producer = _job(tiny_model_dir, corpus, keep_units=KEEP).start(store)
    _opened(store, producer)
    done = launch(_train(store, out, **mesh), processes=2)
    assert done.returncode == 0, done.stderr
    producer.communicate(timeout=300)
    assert producer.returncode == 0
    ours, alone = (_metrics(folder) for folder in (out, undisturbed[0] / "run"))
    assert [line["step"] for line in ours] == [line["step"] for line in alone]
    for line, other in zip(ours[:20], alone, strict=False):  # later a match at the cut may change places by rounding
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-3)
    assert reading(store).released == len(unit_sizes(Store.open(store).attributes)) - 1
    again = launch(_train(store, out, **mesh), processes=2)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("is finished: nothing to do") == 1


def _metrics(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def _steps_done(out: Path) -> int:
    metrics = out / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0


def test_wrong_input(undisturbed, tmp_path, capsys):
    store = undisturbed[0] / "store"
    assert main(_train(store, tmp_path / "other")) == 2
    assert "must have one reader" in capsys.readouterr().err
    assert main(_train(store, undisturbed[0] / "run", steps=10_000)) == 2
    assert "one reading of the bounded store" in capsys.readouterr().err


def test_info_and_status(undisturbed, capsys):
    store = undisturbed[0] / "store"
    assert main(["store", "info", str(store), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["keep_units"] == KEEP
    assert main(["store", "status", str(store), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["state"], status["units_released"]) == ("finished", status["units_total"] - 1)
    assert status["reader"] == str((undisturbed[0] / "run").resolve())
    assert main(["store", "status", str(store)]) == 0
    assert ["reader", status["reader"]] in [line.split() for line in capsys.readouterr().out.splitlines()]
    assert main(["store", "verify", str(store)]) == 0
