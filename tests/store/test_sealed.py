"""A store from a stranger: what it declares is compared with what is there, before anything is computed from it."""

import contextlib
import json
import os
import time

import pytest

from distsae.errors import DistsaeError, TornData
from distsae.producer.status import store_status
from distsae.store import Store, merge_stores, verify_store
from distsae.store.json_files import read_json, replace_json
from tests.store.synthetic import attributes, write_store

HUGE = 10**15


def _changed(path, change):
    content = read_json(path)
    change(content)
    replace_json(path, content)


def _with_file(store, name, size=5):
    """Adds a file to the record of unit 0, and returns where the record says it is."""
    path = store.path / "commits" / "unit-000000.json"
    _changed(path, lambda record: record["files"].update({name: [size, 0]}))
    return store.path / "data" / store.units[0].attempt / name


@pytest.mark.parametrize(
    "name", ["../../../../planted", "/tmp/planted", "act/../../planted", "", "a//b", "a/.", "\x1b[2J"]
)
def test_names_that_lead_out_are_refused_before_anything_is_written(tmp_path, name):
    evil, good = (
        write_store(tmp_path / "evil"),
        write_store(tmp_path / "good", attributes(corpus_fingerprint="d", seed=1)),
    )
    _with_file(evil, name)
    with pytest.raises(TornData, match=r"unit-000000.json .*`files` must have plain names"):
        merge_stores([good.path, evil.path], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil", "good"]


@pytest.mark.parametrize(
    "attempt", ["../../x", "unit-000000", "unit-000000/../../x", "unit-000001/a", "/etc", "unit-000000/a/b"]
)
def test_an_attempt_must_be_a_folder_of_its_unit(tmp_path, attempt):
    store = write_store(tmp_path / "s")
    _changed(store.path / "commits" / "unit-000000.json", lambda record: record.update(attempt=attempt))
    with pytest.raises(TornData, match="`attempt` must be a plain name in the folder of unit 0"):
        Store.open(store.path)


def test_a_file_that_is_also_a_folder(tmp_path):
    _with_file(write_store(tmp_path / "s"), "act/c/c/0/0/more")
    with pytest.raises(TornData, match=r"must not have a file that is also a folder; got 'act/c/c/0/0'"):
        Store.open(tmp_path / "s")


@pytest.mark.parametrize("replaced", ["act/c/c/0/0", "act/c/c/0", "act", "zarr.json"])
def test_links_in_an_attempt_are_named_and_never_followed(tmp_path, replaced):
    evil, good = (
        write_store(tmp_path / "evil"),
        write_store(tmp_path / "good", attributes(corpus_fingerprint="d", seed=1)),
    )
    path = evil.path / "data" / evil.units[0].attempt / replaced
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    faults = verify_store(Store.open(evil.path))
    assert faults
    assert all(f"{path} is a symbolic link" in fault for fault in faults)
    with pytest.raises(TornData, match="is a symbolic link"):
        merge_stores([good.path, evil.path], tmp_path / "out")
    assert not any(found.is_symlink() for found in (tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_regular_file_is_a_fault_and_hangs_nothing(tmp_path, kind):
    store = write_store(tmp_path / "s")
    path = store.path / "data" / store.units[0].attempt / "token_id" / "c" / "0"
    path.unlink()
    make = {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda path: path.symlink_to("/dev/zero")}
    make[kind](path)
    (fault,) = verify_store(Store.open(store.path))
    assert str(path) in fault
    assert "symbolic link" in fault if kind == "device" else "is not a regular file" in fault


@pytest.mark.parametrize("file", ["attributes.json", "dataset.json", "commits/unit-000001.json"])
def test_a_pipe_in_place_of_a_record_hangs_nothing(tmp_path, file):
    store = write_store(tmp_path / "s")
    (store.path / file).unlink()
    os.mkfifo(store.path / file)
    with pytest.raises(DistsaeError):
        Store.open(store.path)
    if file != "dataset.json":
        with pytest.raises(DistsaeError, match="is not a regular file"):
            store_status(store.path)


def test_a_pipe_in_place_of_a_claim_hangs_nothing(tmp_path):
    store = write_store(tmp_path / "s")
    (store.path / "dataset.json").unlink()
    (store.path / "claims").mkdir(exist_ok=True)
    os.mkfifo(store.path / "claims" / "unit-000000")
    for number, content in enumerate(["[]", "7", '{"host": 1}', '{"host": "h", "pid": 1e99}', "[" * 4000]):
        (store.path / "claims" / f"unit-00001{number}").write_text(content)
    assert store_status(store.path).units == 4


def _sealed(**changes):
    return lambda store: _changed(store.path / "dataset.json", lambda dataset: dataset.update(changes))


def _attributes_of_both(**changes):
    """Changes the attributes and seals them again, with the fingerprint of the change, as a stranger would."""

    def change(store):
        changed = attributes(**changes)
        replace_json(store.path / "attributes.json", changed.to_json())
        update = {"attributes": changed.to_json(), "fingerprint": changed.fingerprint()}
        _changed(store.path / "dataset.json", lambda dataset: dataset.update(update))
        for unit in range(4):
            path = store.path / "commits" / f"unit-{unit:06d}.json"
            _changed(path, lambda record: record.update(fingerprint=changed.fingerprint()))

    return change


def _record(**changes):
    return lambda store: _changed(store.path / "commits" / "unit-000000.json", lambda record: record.update(changes))


@pytest.mark.parametrize(
    "change",
    [
        _sealed(rows=HUGE),
        _sealed(heldout_rows=HUGE),
        _sealed(units=HUGE),
        _sealed(unit_digests=["a"] * 5),
        _sealed(unit_digests=[None] * 4),
        _sealed(statistics={}),
        _sealed(statistics={"a.b": {"rows": 1, "mean": [0.0], "mean_norm": 1.0, "variance": 1.0}}),
        _attributes_of_both(contexts=HUGE),
        _attributes_of_both(contexts=HUGE, unit_rows=1),
        _attributes_of_both(context_length=HUGE),
        _attributes_of_both(d_in={"a.b": HUGE, "c": 4}),
        _attributes_of_both(contexts=HUGE, keep_units=2),
        _record(rows=HUGE),
        _record(contexts=HUGE),
        _record(rows=8 * HUGE, contexts=HUGE),
        _record(excluded_rows=HUGE),
        _record(index=1),
        _record(sums={}),
    ],
)
def test_numbers_that_do_not_go_together_are_refused_at_once(tmp_path, change):
    store = write_store(tmp_path / "s")
    change(store)
    started = time.monotonic()
    with pytest.raises(TornData, match=r"\.json"):
        Store.open(store.path)
    assert time.monotonic() - started < 5
    with contextlib.suppress(TornData):
        store_status(store.path)
    assert time.monotonic() - started < 10


def test_rows_and_files_that_agree_with_each_other_and_not_with_the_disk(tmp_path):
    """All numbers are 10^15 in all records: only the sizes on the disk tell."""
    store = write_store(tmp_path / "s")
    rows = 8 * HUGE
    _attributes_of_both(contexts=HUGE + 30, chunk_rows=rows)(store)

    def change(record):
        files = {
            name: [rows * 24 + 4, 0] if name.startswith("act/") else file for name, file in record["files"].items()
        }
        for sums in record["sums"].values():
            del sums["norms"]  # which tell as well
        record.update(rows=rows, contexts=HUGE, files=files)

    _changed(store.path / "commits" / "unit-000000.json", change)
    rest = sum(record.rows for record in store.units if record.split == "train") - store.units[0].rows
    _sealed(rows=rows + rest)(store)
    with pytest.raises(TornData, match="bytes; its unit's commit record promises"):
        Store.open(store.path)


def test_a_released_unit_of_a_bounded_store_that_is_not_there(tmp_path):
    store = write_store(tmp_path / "s", attributes(keep_units=2))
    replace_json(store.path / "reading.json", {"released": HUGE, "reader": "r"})
    started = time.monotonic()
    store_status(store.path)
    verify_store(Store.open(store.path))
    assert time.monotonic() - started < 10


def test_fields_of_later_versions_are_harmless(tmp_path):
    store = write_store(tmp_path / "s")
    for file in ("dataset.json", "attributes.json", "commits/unit-000000.json"):
        _changed(store.path / file, lambda content: content.update(later={"a": [1]}))
    assert verify_store(Store.open(store.path)) == []


def test_errors_name_file_and_field_in_one_line(tmp_path):
    store = write_store(tmp_path / "s")
    path = store.path / "commits" / "unit-000002.json"
    _changed(path, lambda record: record["sums"]["c"].update(norm="\x1b[31m\n"))
    with pytest.raises(TornData) as error:
        Store.open(store.path)
    assert (
        str(error.value)
        == f"{path} is not a record that distsae wrote: `sums.c.norm` must be a number; got '\\x1b[31m\\n'"
    )
    assert json.loads(path.read_text())["checksum"]
