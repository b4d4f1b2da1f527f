import uuid
from pathlib import Path

import pytest

import distsae.durable
from distsae.store.delivery import delivered, fsync_tree
from distsae.store.location import files_under, location


@pytest.fixture(params=["local", "object"])
def root(request, tmp_path):
    if request.param == "local":
        return tmp_path / "store"
    return location(f"{request.getfixturevalue('object_store')}/{uuid.uuid4().hex}")


def test_files_written_in_the_block_are_in_the_store(root):
    with delivered(root / "data" / "x", root) as local:
        (local / "act").mkdir()
        (local / "act" / "0").write_bytes(b"zero")
        (local / "zarr.json").write_bytes(b"{}")
    assert (root / "data" / "x" / "act" / "0").read_bytes() == b"zero"
    assert (root / "data" / "x" / "zarr.json").read_bytes() == b"{}"
    assert len(files_under(root)) == 2


def test_a_block_that_fails_leaves_nothing_in_the_store(root):
    written = []

    def write():
        with delivered(root / "data" / "x", root) as local:
            written.append(local / "zarr.json")
            written[0].write_bytes(b"{}")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write()
    assert files_under(root) == []
    assert not written[0].exists()


def test_fsync_tree_reaches_every_file_and_every_folder_up_to_the_root(tmp_path, monkeypatch):
    folder = tmp_path / "a" / "b"
    (folder / "c").mkdir(parents=True)
    (folder / "c" / "f").write_text("x")
    (folder / "g").write_text("y")
    synced, real = [], distsae.durable.sync

    def sync(path: Path) -> None:
        synced.append(path)
        real(path)

    monkeypatch.setattr("distsae.store.delivery.sync", sync)
    fsync_tree(folder, tmp_path)
    assert synced == [folder / "c" / "f", folder / "c", folder / "g", folder, tmp_path / "a", tmp_path]


def test_fsync_tree_of_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        fsync_tree(tmp_path / "missing", tmp_path)
