import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from distsae.errors import TornData, WrongInput
from distsae.store import (
    Claims,
    Store,
    begin_store,
    collect,
    collect_orphans,
    commit_unit,
    committed_units,
    location,
    seal_store,
    unit_contexts,
    verify_store,
    write_attempt,
)
from tests.store.synthetic import attributes, unit_data, write_store, write_unit


def _attempts(root):
    return sorted(f"{path.parent.name}/{path.name}" for path in root.glob("data/*/*"))


def test_only_attempts_that_no_record_names_are_removed(tmp_path):
    store = write_store(tmp_path)
    attrs = store.attributes
    orphan = write_attempt(tmp_path, attrs, 1, "train", unit_data(attrs, 1))
    collected = collect_orphans(tmp_path)
    assert collected.attempts == 1
    assert collected.size == sum(file.size for file in orphan.files.values())
    assert _attempts(tmp_path) == sorted(unit.attempt for unit in store.units)
    assert verify_store(Store.open(tmp_path)) == []
    assert collect_orphans(tmp_path).attempts == 0


def test_attempt_of_a_living_producer_is_left_alone(tmp_path):
    attrs = attributes()
    begin_store(tmp_path, attrs)
    write_unit(tmp_path, attrs, 0)
    write_attempt(tmp_path, attrs, 1, "train", unit_data(attrs, 1))
    write_attempt(tmp_path, attrs, 2, "train", unit_data(attrs, 2))
    with Claims(tmp_path / "claims") as claims:
        claims.take("unit-000001")
        assert collect_orphans(tmp_path)[::2] == (1, 1)
    assert collect_orphans(tmp_path).attempts == 1
    for unit in range(len(unit_contexts(attrs))):
        write_unit(tmp_path, attrs, unit)
    seal_store(tmp_path, attrs)
    assert verify_store(Store.open(tmp_path)) == []


def test_no_store(tmp_path):
    with pytest.raises(WrongInput, match="must be a store"):
        collect_orphans(tmp_path)


def test_half_written_records_are_collected_when_they_are_old(tmp_path):
    begin_store(tmp_path, attributes())
    write_unit(tmp_path, attributes(), 0)
    left = [tmp_path / ".dataset.json.1.tmp", tmp_path / "commits" / ".unit-000001.json.2.tmp"]
    for path in left:
        path.write_text("{")
    assert collect_orphans(tmp_path).attempts == 0  # their writer may be alive
    for path in left:
        os.utime(path, (1, 1))
    assert collect_orphans(tmp_path).attempts == 2
    assert not any(path.exists() for path in left)


def test_collecting_beside_a_writer_removes_nothing_that_is_committed(tmp_path):
    attrs = attributes(contexts=900)
    begin_store(tmp_path, attrs)
    ended, looks = threading.Event(), []

    def collecting():
        while not ended.is_set():
            looks.append(collect_orphans(tmp_path).attempts)

    units = len(unit_contexts(attrs))
    with ThreadPoolExecutor(1) as pool, Claims(tmp_path / "claims") as claims:
        collector = pool.submit(collecting)
        try:
            for unit in range(units):
                assert claims.take(f"unit-{unit:06d}")
                assert write_unit(tmp_path, attrs, unit)
                claims.release(f"unit-{unit:06d}")
                while len(looks) < 12 * unit // units and not collector.done():  # however slow it is
                    time.sleep(0.001)
        finally:
            ended.set()
        collector.result()
    assert len(looks) > 10
    assert set(looks) == {0}
    seal_store(tmp_path, attrs)
    assert verify_store(Store.open(tmp_path)) == []


@pytest.fixture(params=["local", "object"])
def root(request, tmp_path):
    if request.param == "local":
        return tmp_path
    return location(f"{request.getfixturevalue('object_store')}/{uuid.uuid4().hex}")


def test_a_producer_whose_attempt_was_collected_commits_nothing(root):
    """It was suspended between its last file and its record, until its claim was void."""
    begin_store(root, attributes())
    record = write_attempt(root, attributes(), 0, "train", unit_data(attributes(), 0))
    assert collect_orphans(root).attempts == 1
    with pytest.raises(TornData, match="removed before it was committed; run the command again"):
        commit_unit(root, record)
    assert committed_units(root, 4) == set()
    assert write_unit(root, attributes(), 0)


def test_an_attempt_that_is_committed_while_it_is_being_collected_stays(root, monkeypatch):
    begin_store(root, attributes())
    record = write_attempt(root, attributes(), 0, "train", unit_data(attributes(), 0))
    real, asked = collect._committed_attempt, []

    def committed_attempt(paths, unit):
        found = real(paths, unit)
        asked.append(found)
        if len(asked) == 1:  # after the first look at the record, and before the attempt is hidden
            assert commit_unit(root, record)
        return found

    monkeypatch.setattr(collect, "_committed_attempt", committed_attempt)
    assert collect_orphans(root).attempts == 0
    assert asked == [None, record.attempt]
    for unit in (1, 2, 3):
        write_unit(root, attributes(), unit)
    seal_store(root, attributes())
    assert verify_store(Store.open(root)) == []


def test_void_claims_are_removed(tmp_path):
    begin_store(tmp_path, attributes())
    with Claims(tmp_path / "claims") as claims:
        claims.take("unit-000000")
        (tmp_path / "claims" / "unit-000001").write_text('{"host": "elsewhere", "pid": 1}')
        os.utime(tmp_path / "claims" / "unit-000001", (1, 1))
        collect_orphans(tmp_path)
        assert [path.name for path in (tmp_path / "claims").iterdir()] == ["unit-000000"]
