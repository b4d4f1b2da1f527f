import json
import os
import threading

import google_crc32c
import numpy as np
import pytest

from distsae.errors import TornData
from distsae.store.json_files import crc32c, fsync_tree, publish_json, read_json, replace_json


def test_first_writer_wins_and_leaves_no_scratch(tmp_path):
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
def test_what_is_no_record_is_named(tmp_path, damage):
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


def test_crc32c_takes_bytes_and_writable_arrays():
    array = np.arange(100, dtype=np.uint8)
    assert crc32c(array) == crc32c(array.tobytes()) == google_crc32c.value(array.tobytes())
    assert crc32c(b"123456789") == 0xE3069283  # the published check value of CRC-32C
    assert array.flags.writeable


def test_fsync_tree_reaches_every_file(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "f").write_text("x")
    fsync_tree(tmp_path / "a" / "b", tmp_path)
    with pytest.raises(FileNotFoundError):
        fsync_tree(tmp_path / "missing", tmp_path)


def test_a_link_of_which_only_the_answer_was_lost_is_ours(tmp_path, monkeypatch):
    """A network file system asks again then, and is told that the name exists."""
    real = os.link

    def link(source, target):
        real(source, target)
        raise FileExistsError(17, "File exists", str(target))

    monkeypatch.setattr(os, "link", link)
    assert publish_json(tmp_path / "a.json", {"attempt": "mine"})
    assert not publish_json(tmp_path / "a.json", {"attempt": "another's"})
    assert read_json(tmp_path / "a.json") == {"attempt": "mine"}


def test_replacing(tmp_path):
    replace_json(tmp_path / "a.json", {"released": 2})
    replace_json(tmp_path / "a.json", {"released": 4})
    assert read_json(tmp_path / "a.json") == {"released": 4}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
