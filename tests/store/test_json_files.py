import json
import threading

import pytest

from distsae.errors import TornData
from distsae.store.json_files import publish_json, read_json, replace_json


def test_first_writer_wins_and_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "records" / "a.json"
    assert publish_json(path, {"n": 1.5, "s": ["x"]})
    assert not publish_json(path, {"n": 2})
    assert read_json(path) == {"n": 1.5, "s": ["x"]}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_of_many_racing_writers_one_wins(tmp_path):
    for attempt in range(20):
        path = tmp_path / f"{attempt}.json"
        barrier = threading.Barrier(6)
        won = []

        def race(number, path=path, barrier=barrier, won=won):
            barrier.wait()
            if publish_json(path, {"number": number}):
                won.append(number)

        threads = [threading.Thread(target=race, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert read_json(path)["number"] == won[0]


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b"{\xff", b"null"])
def test_a_file_that_is_not_a_record_is_named(tmp_path, damage):
    path = tmp_path / "a.json"
    path.write_bytes(damage)
    with pytest.raises(TornData, match=r"a\.json"):
        read_json(path)


def test_a_changed_number_is_noticed(tmp_path):
    path = tmp_path / "a.json"
    publish_json(path, {"rows": 100})
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "rows": 101}))
    with pytest.raises(TornData, match="checksum"):
        read_json(path)


def test_a_record_is_replaced(tmp_path):
    replace_json(tmp_path / "a.json", {"released": 2})
    replace_json(tmp_path / "a.json", {"released": 4})
    assert read_json(tmp_path / "a.json") == {"released": 4}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
