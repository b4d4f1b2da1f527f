import json

import pytest

from distsae.errors import TornData, WrongInput
from distsae.store import Store, begin_store, commit_unit, committed_units, read_attributes, seal_store, write_attempt
from tests.store.synthetic import attributes, unit_data, write_store, write_unit


def test_begin_keeps_the_first_and_refuses_others(tmp_path):
    root, attrs = tmp_path / "store", attributes()
    assert read_attributes(tmp_path) is None
    begin_store(root, attrs)
    assert begin_store(root, attributes(library_versions={"torch": "other"})) == attrs
    with pytest.raises(WrongInput, match="seed 5 now and 0 in the store"):
        begin_store(root, attributes(seed=5))
    (tmp_path / "file").write_text("")
    with pytest.raises(WrongInput, match="must be a folder"):
        begin_store(tmp_path / "file", attrs)


def test_second_attempt_at_a_unit_is_discarded(tmp_path):
    attrs = attributes()
    first, second = (write_attempt(tmp_path, attrs, 0, "train", unit_data(attrs, 0)) for _ in range(2))
    assert commit_unit(tmp_path, second)
    assert not commit_unit(tmp_path, first)
    assert [path.name for path in (tmp_path / "data" / "unit-000000").iterdir()] == [second.attempt.split("/")[1]]
    assert committed_units(tmp_path, 4) == {0}


def test_sealed_content_does_not_depend_on_the_order_of_commits(tmp_path):
    one = write_store(tmp_path / "one")
    attrs = attributes()
    begin_store(tmp_path / "two", attrs)
    for unit in (3, 1, 0, 2):
        write_unit(tmp_path / "two", attrs, unit)
    seal_store(tmp_path / "two", attrs)
    assert (tmp_path / "one" / "dataset.json").read_bytes() == (tmp_path / "two" / "dataset.json").read_bytes()
    assert Store.open(tmp_path / "two").content_digest == one.content_digest
    assert write_store(tmp_path / "seed", attributes(seed=1)).content_digest != one.content_digest


def test_sealing_waits_for_every_unit(tmp_path):
    attrs = attributes()
    begin_store(tmp_path, attrs)
    write_unit(tmp_path, attrs, 0)
    with pytest.raises(FileNotFoundError):
        seal_store(tmp_path, attrs)
    assert not (tmp_path / "dataset.json").exists()


def test_unit_of_another_store_is_refused(tmp_path):
    attrs = attributes()
    begin_store(tmp_path, attrs)
    for unit in range(3):
        write_unit(tmp_path, attrs, unit)
    write_unit(tmp_path, attributes(seed=9), 3)
    with pytest.raises(TornData, match=r"unit-000003\.json belongs to another store"):
        seal_store(tmp_path, attrs)


def test_dataset_json_holds_what_the_design_promises(tmp_path):
    write_store(tmp_path / "s")
    dataset = json.loads((tmp_path / "s" / "dataset.json").read_text())
    assert dataset["units"] == len(dataset["unit_digests"]) == 4
    assert dataset["rows"] == 36 * 8
    assert dataset["heldout_rows"] == 4 * 8
    assert set(dataset["statistics"]["a.b"]) == {"rows", "mean", "mean_norm", "variance"}
    assert dataset["attributes"]["context_length"] == 9
