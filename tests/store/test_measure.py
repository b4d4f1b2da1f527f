"""A measured store has the very records that producing gives today, and nothing else in it changes."""

import os
import uuid

import pytest
import torch

import distsae.store.measure as measure_module
from distsae.errors import CannotContinue, TornData, WrongInput
from distsae.store import Store, location, measure_store, merge_stores, unmeasured, verify_store
from distsae.store.json_files import read_json, replace_json
from tests.store.foreign import write_foreign_store
from tests.store.synthetic import as_older, attributes, plant_outliers, write_store


def _contents(root, leave_out=()):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.parent.name not in leave_out
    }


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
def test_measured_equals_produced_bit_for_bit(tmp_path, dtype):
    produced = write_store(tmp_path / "s", attributes(dtype=dtype), plant_outliers)
    assert all(sums.norms.outliers for unit in produced.units for sums in unit.sums.values())
    expected = _contents(produced.path)
    older = as_older(produced)
    before = _contents(produced.path)
    assert before != expected
    assert older.norms("c") is None
    seen = []
    measured = measure_store(older, seen.append)
    assert _contents(produced.path) == expected
    assert seen == [unit.rows for unit in older.units]
    assert measured.units == produced.units
    assert measured.norms("c").histogram == produced.norms("c").histogram
    assert (measured.content_digest, measured.fingerprint) == (older.content_digest, older.fingerprint)
    assert verify_store(measured) == []


def test_only_commit_records_change_and_keep_their_times(tmp_path):
    store = as_older(write_store(tmp_path / "s", change=plant_outliers))
    record = store.path / "commits" / "unit-000001.json"
    os.utime(record, (1e9, 1e9))
    before = _contents(store.path, leave_out=["commits"])
    measure_store(store)
    assert _contents(store.path, leave_out=["commits"]) == before
    assert record.stat().st_mtime == 1e9  # the time of the commit
    assert not [path for path in (store.path / "commits").iterdir() if path.name.startswith(".")]


def test_an_interrupted_measurement_goes_on_where_it_was(tmp_path, monkeypatch):
    store = as_older(write_store(tmp_path / "s", change=plant_outliers))
    replaced = []

    def dies(path, content):
        if len(replaced) == 2:
            raise KeyboardInterrupt
        replaced.append(path)
        replace_json(path, content)

    monkeypatch.setattr(measure_module, "replace_json", dies)
    with pytest.raises(KeyboardInterrupt):
        measure_store(store)
    monkeypatch.undo()
    half = Store.open(store.path)
    assert [record.index for record in unmeasured(half)] == [2, 3]
    assert half.norms("c") is None
    whole = measure_store(half)
    assert unmeasured(whole) == []
    assert whole.norms("c").rows == whole.rows


def test_hooks_that_have_a_histogram_are_left_alone(tmp_path):
    store = write_store(tmp_path / "s", change=plant_outliers)
    path = store.path / "commits" / "unit-000000.json"
    record = read_json(path)
    del record["sums"]["c"]["norms"]
    replace_json(path, record)
    half = Store.open(store.path)
    assert [unit.index for unit in unmeasured(half)] == [0]
    assert measure_store(half).units == store.units


def test_units_in_other_codecs_and_merged_stores(tmp_path):
    foreign = write_foreign_store(tmp_path / "f", attributes(corpus_fingerprint="f"), fill_value=-1)
    expected = foreign.units
    assert measure_store(as_older(foreign)).units == expected
    older = as_older(write_store(tmp_path / "a", change=plant_outliers))
    merged = merge_stores([older.path, foreign.path], tmp_path / "c")
    assert merged.norms("c") is None
    assert len(unmeasured(merged)) == len(older.units)
    assert measure_store(merged).norms("c").rows == merged.rows
    assert unmeasured(Store.open(older.path)) == list(older.units)  # its records are its own


def test_a_store_in_a_bucket(object_store):
    root = location(f"{object_store}/{uuid.uuid4().hex}")
    produced = write_store(root, change=plant_outliers)
    assert measure_store(as_older(produced)).units == produced.units


def test_what_cannot_be_measured(tmp_path):
    bounded = write_store(tmp_path / "b", attributes(contexts=200, keep_units=4))
    with pytest.raises(WrongInput, match="must keep all units; got a bounded store"):
        measure_store(bounded)

    def broken(data):
        data.acts["c"][3, 1] = torch.nan

    store = write_store(tmp_path / "n", change=broken)
    assert store.norms("c") is None
    assert store.norms("a.b") is not None
    with pytest.raises(CannotContinue, match=r"unit 0 of .* must hold finite rows; got infinities or NaNs at c"):
        measure_store(store)
    torn = as_older(write_store(tmp_path / "t"))
    next((torn.path / "data" / torn.units[1].attempt).rglob("act/c/c/1/0")).unlink()
    with pytest.raises(TornData, match="is missing"):
        measure_store(torn)
