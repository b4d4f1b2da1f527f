import json

import pytest

from distsae.errors import TornData
from distsae.store import Store, verify_store
from distsae.store.json_files import publish_json, read_json
from tests.store.synthetic import write_store


def test_whole_store_has_no_faults_and_every_byte_is_counted(tmp_path):
    store = write_store(tmp_path / "s")
    seen = []
    assert verify_store(store, seen.append) == []
    on_disk = sum(path.stat().st_size for path in (store.path / "data").rglob("*") if path.is_file())
    assert sum(seen) == on_disk


@pytest.mark.parametrize("pattern", ["act/a.b/c/0/0", "token_id/c/0", "context_token_ids/c/0/0", "act/c/zarr.json"])
def test_one_flipped_byte_anywhere_is_found_and_named(tmp_path, pattern):
    store = write_store(tmp_path / "s")
    file = store.path / "data" / store.units[1].attempt / pattern
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)
    (fault,) = verify_store(store)
    assert str(file) in fault


def test_all_faults_are_listed(tmp_path):
    store = write_store(tmp_path / "s")
    folder = store.path / "data" / store.units[0].attempt
    (folder / "zarr.json").unlink()
    (folder / "act" / "c" / "c" / "1" / "0").unlink()
    faults = verify_store(store)
    assert len(faults) == 2
    assert all("is missing" in fault for fault in faults)


def test_record_that_leaves_out_a_chunk_is_found(tmp_path):
    store = write_store(tmp_path / "s")
    path = store.path / "commits" / "unit-000000.json"
    record = read_json(path)
    del record["files"]["act/c/c/1/0"]
    path.unlink()
    publish_json(path, json.loads(json.dumps(record)))
    (fault,) = verify_store(Store.open(store.path))
    assert "act/c/c/1/0" in fault


def test_norms_of_other_rows_are_found(tmp_path):
    store = write_store(tmp_path / "s")
    path = store.path / "commits" / "unit-000000.json"
    record = read_json(path)
    record["sums"]["c"]["norms"]["rows"][0] += 1
    path.unlink()
    publish_json(path, record)
    with pytest.raises(TornData, match=rf"{path} .*`sums.c.norms.rows` must be {record['rows']} rows in all; got"):
        Store.open(store.path)
