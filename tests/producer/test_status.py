import os
from dataclasses import asdict

import pytest

from distsae.errors import WrongInput
from distsae.producer.status import store_status, units_in_words
from distsae.store import (
    Claims,
    Store,
    begin_store,
    merge_stores,
    release,
    seal_store,
    unit_contexts,
    units_wanted,
)
from tests.store.synthetic import attributes, write_store, write_unit

ATTRS = attributes()  # 40 contexts of 8 rows: units of 12 contexts each, and a held-out one of 4


def _at(root, unit, seconds):
    """Sets the time at which a unit was committed."""
    os.utime(root / "commits" / f"unit-{unit:06d}.json", (seconds, seconds))


def test_a_folder_without_a_store_is_refused(tmp_path):
    for root in (tmp_path, tmp_path / "missing"):
        with pytest.raises(WrongInput, match="must be a store"):
            store_status(root)
        assert units_in_words(root) == "nothing is committed yet"


def test_while_the_first_producer_tokenises(tmp_path):
    with Claims(tmp_path / "claims") as claims:
        claims.take("contexts")
        status = store_status(tmp_path)
    assert (status.state, status.producers, status.units, status.rows) == ("running", 1, 0, 0)
    assert status.units_total is status.rows_total is status.seconds_left is status.rows_per_second is None


def test_before_the_first_commit(tmp_path):
    begin_store(tmp_path, ATTRS)
    status = store_status(tmp_path)
    assert (status.state, status.producers, status.units, status.units_total) == ("waiting", 0, 0, 4)
    assert (status.rows, status.rows_total, status.bytes) == (0, 320, 0)
    with Claims(tmp_path / "claims") as claims:
        claims.take("unit-000000")
        claims.take("unit-000001")  # one unit is written and one computed, by one producer
        assert asdict(store_status(tmp_path)) == asdict(status) | {"state": "running", "producers": 1}


def test_rate_and_time_left_come_from_the_times_of_commits_and_claims(tmp_path):
    begin_store(tmp_path, ATTRS)
    os.utime(tmp_path / "attributes.json", (1000, 1000))
    for unit, seconds in ((0, 1060), (2, 1100)):
        write_unit(tmp_path, ATTRS, unit)
        _at(tmp_path, unit, seconds)
    rows = sum(len(unit_contexts(ATTRS)[unit]) * 8 for unit in (0, 2))
    status = store_status(tmp_path)
    assert (status.state, status.units, status.rows) == ("waiting", 2, rows)
    assert status.rows_per_second == pytest.approx(rows / 100)
    assert status.seconds_left is None  # no process works on it
    assert status.bytes == sum(file.stat().st_size for file in (tmp_path / "data").rglob("*") if file.is_file())
    assert units_in_words(tmp_path) == "2 of 4 units are committed"
    with Claims(tmp_path / "claims", renew_every=3600) as claims:
        claims.take("unit-000001")
        now = (tmp_path / "claims" / "unit-000001").stat().st_mtime
        os.utime(tmp_path / "attributes.json", (now - 50, now - 50))
        _at(tmp_path, 0, now - 30)
        _at(tmp_path, 2, now - 10)
        status = store_status(tmp_path)
    assert status.state == "running"
    assert status.rows_per_second == pytest.approx(rows / 50)  # up to the renewal of the claim
    assert status.seconds_left == pytest.approx((320 - rows) / (rows / 50))


def test_old_commits_do_not_count_towards_the_rate(tmp_path):
    begin_store(tmp_path, ATTRS)
    os.utime(tmp_path / "attributes.json", (0, 0))
    rows = [len(ids) * 8 for ids in unit_contexts(ATTRS)]
    for unit, seconds in enumerate((10_000, 20_000, 20_100)):
        write_unit(tmp_path, ATTRS, unit)
        _at(tmp_path, unit, seconds)
    assert store_status(tmp_path).rows_per_second == pytest.approx((rows[1] + rows[2]) / 3600)
    _at(tmp_path, 0, 19_000)  # the third newest is 1,100 s ago: longer than ten minutes, less than an hour
    assert store_status(tmp_path).rows_per_second == pytest.approx((rows[1] + rows[2]) / 1100)
    _at(tmp_path, 0, 20_000)
    _at(tmp_path, 1, 20_050)
    assert store_status(tmp_path).rows_per_second == pytest.approx(sum(rows[:3]) / 600)


def test_finished_and_merged(tmp_path):
    first = write_store(tmp_path / "a", attributes(corpus_fingerprint="n"))
    second = write_store(tmp_path / "b", attributes(corpus_fingerprint="v", seed=1, unit_rows=50))
    merged = merge_stores([str(first.path), str(second.path)], str(tmp_path / "c"))
    for store in (first, second, merged):
        status = store_status(store.path)
        rows = store.rows + store.heldout_rows
        assert (status.state, status.producers, status.seconds_left) == ("finished", 0, 0.0)
        assert (status.units, status.units_total) == (len(store.units), len(store.units))
        assert (status.rows, status.rows_total) == (rows, rows)
        assert status.bytes == sum(file.size for unit in store.units for file in unit.files.values())
    assert store_status(merged.path).units == len(first.units) + len(second.units)
    (merged.path / "dataset.json").unlink()  # an unfinished merge
    (merged.path / "commits" / "unit-000001.json").unlink()
    status = store_status(merged.path)
    assert (status.state, status.units_total - status.units) == ("waiting", 1)
    assert Store.open(first.path).rows  # unchanged


def test_a_bounded_store_counts_what_was_released(tmp_path):
    attrs = attributes(contexts=200, keep_units=4)
    begin_store(tmp_path, attrs)
    for unit in sorted(units_wanted(tmp_path, attrs)):
        write_unit(tmp_path, attrs, unit)
    seal_store(tmp_path, attrs)
    total = len(unit_contexts(attrs))
    before = store_status(tmp_path)
    assert (before.state, before.units, before.units_released, before.units_total) == ("waiting", 5, 0, total)
    assert before.reader is None
    release(tmp_path, "a run", 2)
    status = store_status(tmp_path)
    assert (status.state, status.units, status.units_released, status.rows) == ("waiting", 5, 2, before.rows)
    assert status.bytes < before.bytes
    assert status.reader == "a run"
    assert units_in_words(tmp_path) == f"5 of {total} units are done"
    release(tmp_path, "a run", total - 1)
    assert (store_status(tmp_path).state, store_status(tmp_path).units) == ("finished", total)


def test_a_record_that_is_removed_while_records_are_read_does_not_count(tmp_path):
    begin_store(tmp_path, ATTRS)
    write_unit(tmp_path, ATTRS, 0)
    before = store_status(tmp_path)
    record = tmp_path / "commits" / "unit-000001.json"
    record.symlink_to("nowhere")  # listed, but cannot be read
    assert store_status(tmp_path) == before
