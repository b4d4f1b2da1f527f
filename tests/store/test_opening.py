"""A store is opened if `dataset.json`, the attributes and all commit records agree; otherwise it is said why not."""

import pytest

from distsae.errors import TornData, WrongInput
from distsae.store import begin_store
from distsae.store.json_files import read_json, replace_json
from distsae.store.opening import read_sealed
from tests.store.synthetic import attributes, write_store, write_unit


def test_returns_what_was_sealed(tmp_path):
    store = write_store(tmp_path / "s")
    root, attrs, units, dataset = read_sealed(tmp_path / "s")
    assert (root, attrs, units) == (store.path, store.attributes, store.units)
    assert dataset["content_digest"] == store.content_digest


def test_no_store_and_an_unfinished_one(tmp_path):
    with pytest.raises(WrongInput, match=r"must be a store; got no dataset.json there; make one with `distsae produce"):
        read_sealed(tmp_path)
    begin_store(tmp_path / "s", attributes())
    write_unit(tmp_path / "s", attributes(), 1)
    with pytest.raises(WrongInput, match="must be finished; got 1 of 4 units; run the same `distsae produce` command"):
        read_sealed(tmp_path / "s")


@pytest.mark.parametrize(
    ("file", "change", "error", "words"),
    [
        ("dataset.json", {"format_version": 2}, WrongInput, "must have format 1; got 2"),
        ("dataset.json", {"fingerprint": "f"}, TornData, "is missing or not the one that the store was sealed with"),
        ("commits/unit-000002.json", {"digest": "d"}, TornData, "unit-000002.json is not the record that"),
    ],
)
def test_files_that_do_not_agree(tmp_path, file, change, error, words):
    store = write_store(tmp_path / "s")
    replace_json(store.path / file, {**read_json(store.path / file), **change})
    with pytest.raises(error, match=words):
        read_sealed(store.path)


def test_a_record_that_is_gone(tmp_path):
    store = write_store(tmp_path / "s")
    (store.path / "commits" / "unit-000000.json").unlink()
    with pytest.raises(TornData, match=r"unit-000000.json is missing from a sealed store"):
        read_sealed(store.path)
