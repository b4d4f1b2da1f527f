import uuid

import pytest
import torch

from distsae.errors import WrongInput
from distsae.store import (
    NormHistogram,
    Store,
    begin_reading,
    begin_store,
    collect_orphans,
    committed_units,
    location,
    merge_stores,
    reading,
    release,
    seal_early,
    seal_store,
    unit_sizes,
    units_done,
    units_to_seal,
    units_wanted,
    verify_store,
    windows,
)
from distsae.store.bounded import Reading
from distsae.store.json_files import replace_json
from distsae.store.location import create
from tests.store.synthetic import attributes, plant_outliers, write_store, write_unit

ATTRS = attributes(contexts=200, heldout_contexts=4, keep_units=4)  # 18 train units or so, and one held out
HOOK = ATTRS.hooks[0]
UNITS = len(unit_sizes(ATTRS))
HELDOUT = UNITS - 1


@pytest.fixture(params=["local", "object"])
def root(request, tmp_path):
    if request.param == "local":
        root = tmp_path / "store"
    else:
        root = location(f"{request.getfixturevalue('object_store')}/{uuid.uuid4().hex}")
    begin_store(root, ATTRS)
    return root


def _fill(root):
    """Writes all units that producers may write before they must wait."""
    for unit in sorted(units_wanted(root, ATTRS) - units_done(root, ATTRS)):
        write_unit(root, ATTRS, unit)


def test_windows_hold_every_train_unit_once():
    found = [unit for window in windows(ATTRS) for unit in window]
    assert found == list(range(HELDOUT))
    assert {len(window) for window in windows(ATTRS)[:-1]} == {2}
    assert units_to_seal(ATTRS) == (0, 1, HELDOUT)


def test_stores_that_keep_all_units_have_the_fingerprint_that_they_had_before_there_were_bounded_ones():
    assert "keep_units" not in attributes().to_json()
    assert attributes().fingerprint() != attributes(keep_units=4).fingerprint()
    assert type(ATTRS).from_json(ATTRS.to_json()) == ATTRS


def test_producers_wait_and_continue(root):
    assert units_wanted(root, ATTRS) == {0, 1, 2, 3, HELDOUT}
    _fill(root)
    assert committed_units(root, UNITS) == {0, 1, 2, 3, HELDOUT}
    assert begin_reading(root, "runs/a", 0) is False
    release(root, "runs/a", 2)
    assert reading(root) == Reading(2, "runs/a")
    assert units_wanted(root, ATTRS) == {2, 3, 4, 5, HELDOUT}
    _fill(root)
    assert committed_units(root, UNITS) == {2, 3, 4, 5, HELDOUT}
    assert units_done(root, ATTRS) == {0, 1, 2, 3, 4, 5, HELDOUT}
    assert sorted(path.name for path in (root / "data").iterdir()) == [f"unit-{u:06d}" for u in (2, 3, 4, 5, HELDOUT)]


def test_an_open_store_covers_units_that_are_still_to_be_produced(root, tmp_path):
    write_unit(root, ATTRS, HELDOUT)
    with pytest.raises(WrongInput, match=f"1 of {UNITS} units"):
        Store.open(root)
    _fill(root)
    seal_store(root, ATTRS)
    store = Store.open(root)
    whole = write_store(tmp_path / "whole", attributes(contexts=200, heldout_contexts=4))
    assert (store.rows, store.heldout_rows) == (whole.rows, whole.heldout_rows)
    assert store.chunks("train") == whole.chunks("train")
    assert store.chunks("heldout") == whole.chunks("heldout")
    assert [unit.index for unit in store.units] == [HELDOUT]
    assert torch.equal(store.heldout_contexts(), whole.heldout_contexts())
    first = [chunk for chunk in whole.chunks() if chunk.unit < 2]
    rows = torch.cat([whole.read_chunk(HOOK, chunk) for chunk in first]).double()
    assert store.statistics(HOOK).rows == len(rows)
    assert store.statistics(HOOK).mean_norm == pytest.approx(float(rows.norm(dim=1).mean()))

    for chunk in (chunk for chunk in store.chunks() if chunk.unit < 4):
        assert torch.equal(store.read_chunk(HOOK, chunk), whole.read_chunk(HOOK, chunk))
    with pytest.raises(FileNotFoundError):
        store.record(4)
    release(root, "runs/a", 2)
    _fill(root)
    for chunk in (chunk for chunk in store.chunks() if 4 <= chunk.unit < 6):  # without opening the store again
        assert torch.equal(store.read_chunk(HOOK, chunk), whole.read_chunk(HOOK, chunk))
    assert Store.open(root).content_digest == store.content_digest


def test_norms_are_sealed_and_outlast_the_units_that_they_are_of(tmp_path):
    store = write_store(tmp_path / "s", ATTRS, plant_outliers)
    whole = write_store(tmp_path / "whole", attributes(contexts=200, heldout_contexts=4), plant_outliers)
    first = [unit.sums[HOOK].norms for unit in whole.units[:2]]
    release(store.path, "runs/a", 2)
    assert committed_units(store.path, UNITS) == {HELDOUT}
    norms = Store.open(store.path).norms(HOOK)
    assert norms.histogram == NormHistogram.merged(first)
    limit = norms.limit(10)
    assert norms.rows_over(limit) > 0
    assert store.statistics(HOOK, limit).rows == store.statistics(HOOK).rows - norms.rows_over(limit)


def test_the_disk_stays_bounded_when_the_reader_goes_back(root):
    _fill(root)
    begin_reading(root, "runs/a", 0)
    release(root, "runs/a", 6)
    _fill(root)
    begin_reading(root, "runs/a", 2)
    assert committed_units(root, UNITS) == {HELDOUT}
    _fill(root)
    assert committed_units(root, UNITS) == {2, 3, 4, 5, HELDOUT}
    assert sorted(path.name for path in (root / "data").iterdir()) == [f"unit-{u:06d}" for u in (2, 3, 4, 5, HELDOUT)]


def test_an_abandoned_run_releases_nothing(root):
    _fill(root)
    begin_reading(root, "runs/a", 0)
    (root / "reading.json").unlink()  # what the error of a second run advises
    begin_reading(root, "runs/b", 0)
    with pytest.raises(WrongInput, match="must have one reader"):
        release(root, "runs/a", 2)
    assert committed_units(root, UNITS) == {0, 1, 2, 3, HELDOUT}


def test_a_long_reading_keeps_the_records_of_a_window_or_two(root):
    _fill(root)
    seal_store(root, ATTRS)
    store = Store.open(root)
    for unit in range(4):
        store.array(unit, f"act/{HOOK}")
    store.forget_before(3)
    assert set(store._records) == {3, HELDOUT}
    assert {unit for unit, _ in store._arrays} == {3}
    store.record(2)  # a forgotten record is read again


def test_sealing_after_another_process_is_not_an_error(root):
    """The other process seals the store, and a reader releases a unit, after this one saw that it was not sealed."""
    _fill(root)
    seal_store(root, ATTRS)
    sealed = (root / "dataset.json").read_bytes()
    (root / "dataset.json").unlink()
    with pytest.MonkeyPatch.context() as patch:

        def late(*arguments):
            create(root / "dataset.json", sealed)
            release(root, "runs/a", 2)
            return seal_store(*arguments)

        patch.setattr("distsae.store.bounded.seal_store", late)
        seal_early(root, ATTRS)
    assert (root / "dataset.json").read_bytes() == sealed


def test_a_reader_that_goes_back_gets_the_same_rows_again(root):
    _fill(root)
    seal_store(root, ATTRS)
    chunks = [chunk for chunk in Store.open(root).chunks() if chunk.unit < 2]
    before = [Store.open(root).read_chunk(HOOK, chunk) for chunk in chunks]
    release(root, "runs/a", 4)
    _fill(root)
    assert begin_reading(root, "runs/a", 0) is True
    assert units_wanted(root, ATTRS) - committed_units(root, UNITS) == {0, 1, 2, 3}
    _fill(root)
    store = Store.open(root)
    for chunk, rows in zip(chunks, before, strict=True):
        assert torch.equal(store.read_chunk(HOOK, chunk), rows)


def test_one_reader(root):
    begin_reading(root, "runs/a", 0)
    release(root, "runs/a", 2)
    assert begin_reading(root, "runs/a", 2) is False
    with pytest.raises(WrongInput, match=r"one reader.*got runs/a; resume that run"):
        begin_reading(root, "runs/b", 0)


def test_an_interrupted_release_is_finished_by_the_next(root):
    """It was killed after it had written its progress; then units are collected, and a late producer commits one."""
    _fill(root)
    begin_reading(root, "runs/a", 0)
    replace_json(root / "reading.json", {"released": 2, "reader": "runs/a"})
    assert collect_orphans(root).attempts == 0
    assert committed_units(root, UNITS) == {2, 3, HELDOUT}
    write_unit(root, ATTRS, 1)  # by a producer that was suspended since before the release
    assert units_done(root, ATTRS) == {0, 1, 2, 3, HELDOUT}
    release(root, "runs/a", 2)
    assert committed_units(root, UNITS) == {2, 3, HELDOUT}
    assert not (root / "data" / "unit-000001").is_dir()


def test_the_units_that_are_there_are_verified(root):
    _fill(root)
    seal_store(root, ATTRS)
    release(root, "runs/a", 2)
    store = Store.open(root)
    assert [unit.index for unit in store.committed()] == [2, 3, HELDOUT]
    assert verify_store(store) == []
    file = root / "data" / store.record(3).attempt / "token_id" / "c" / "0"
    file.unlink()
    (fault,) = verify_store(Store.open(root))
    assert str(file) in fault


def test_bounded_stores_are_not_merged(root, tmp_path):
    _fill(root)
    seal_store(root, ATTRS)
    other = write_store(tmp_path / "other", attributes(corpus_fingerprint="other"))
    with pytest.raises(WrongInput, match="must keep all units; got a bounded store"):
        merge_stores([root, other.path], tmp_path / "merged")
