import os

import pytest

from distsae.errors import WrongInput
from distsae.store import (
    Claims,
    Store,
    begin_store,
    collect_orphans,
    seal_store,
    unit_contexts,
    verify_store,
    write_attempt,
)

from .synthetic import attributes, unit_data, write_store, write_unit


def _attempts(root):
    return sorted(f"{path.parent.name}/{path.name}" for path in root.glob("data/*/*"))


def test_only_what_no_record_names_is_removed(tmp_path):
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
