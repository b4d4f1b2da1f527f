import errno
import os
import uuid
from pathlib import Path

import pytest

from distsae.errors import WrongInput
from distsae.store.location import create, entries, files_under, local_copy, location, poll_seconds, remove_tree, touch
from distsae.store.object_path import ObjectPath


@pytest.fixture(params=["local", "object"])
def folder(request, tmp_path):
    if request.param == "local":
        return tmp_path / "folder"
    return location(f"{request.getfixturevalue('object_store')}/{uuid.uuid4().hex}")


def test_folders_and_urls(monkeypatch):
    monkeypatch.setenv("HOME", "/somebody")
    assert location("stores/gpt2") == Path("stores/gpt2")
    assert location("~/stores") == Path("/somebody/stores")
    assert location(Path("/a")) == Path("/a")
    assert location("file:///a/b") == Path("/a/b")
    assert location("s3://bucket/a/b") == ObjectPath("s3://bucket/a/b")
    assert location(location("gs://bucket/a")) == ObjectPath("gs://bucket/a")
    assert location("file://localhost/a/b") == Path("/a/b")
    assert location("S3://bucket/a") == ObjectPath("s3://bucket/a")
    assert location("a:b/c") == Path("a:b/c")
    for wrong in ("memory:///a", "s3:/bucket/a", "s3://", "file://a/b", "http://host/a", "ftp://host/a"):
        with pytest.raises(WrongInput, match=r"must be a folder or the URL of one.*like s3://bucket/folder"):
            location(wrong)
    with pytest.raises(WrongInput, match="must be a folder; got"):
        location("~nobody-of-that-name/a")


def test_object_stores_are_looked_at_less_often():
    assert poll_seconds(Path("/a")) == 0.3
    assert poll_seconds(ObjectPath("s3://bucket/a")) == 3.0


def test_entries(folder):
    for name in ("unit-2", "unit-1/file", "other"):
        create(folder / name, b"")
    assert [path.name for path in entries(folder)] == ["other", "unit-1", "unit-2"]
    assert [path.name for path in entries(folder, "unit-")] == ["unit-1", "unit-2"]
    assert entries(folder / "missing") == []


def test_create(folder):
    assert create(folder / "claims" / "a", b"mine")
    assert not create(folder / "claims" / "a", b"another's")
    assert (folder / "claims" / "a").read_bytes() == b"mine"


def test_touch(folder):
    path = folder / "a"
    create(path, b"mine")
    if isinstance(path, Path):
        os.utime(path, (1, 1))
    before = path.stat().st_mtime
    touch(path, b"mine")
    assert path.stat().st_mtime >= before + (isinstance(path, Path) and 1e9)
    assert path.read_bytes() == b"mine"


def test_files_and_removal(folder):
    for name in ("a/1", "a/b/2", "c"):
        create(folder / name, b"")
    assert sorted(path.name for path in files_under(folder / "a")) == ["1", "2"]
    assert list(files_under(folder / "nothing")) == []
    remove_tree(folder / "a")
    remove_tree(folder / "nothing")
    assert [path.name for path in files_under(folder)] == ["c"]
    remove_tree(folder / "c")
    assert list(files_under(folder)) == []


def test_local_copy(folder):
    for name in ("a/1", "a/b/2"):
        create(folder / name, name.encode())
    with local_copy(folder / "a") as copy:
        assert sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()) == ["1", "b/2"]
        assert (copy / "b" / "2").read_bytes() == b"a/b/2"


def test_a_file_whose_time_cannot_be_set_is_written_again(tmp_path, monkeypatch):
    file = tmp_path / "claim"
    file.write_bytes(b"mine")
    os.utime(file, (1, 1))

    def missing(*args, **options):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr("os.utime", missing)
    touch(file, b"mine")
    assert file.stat().st_mtime > 1
    assert file.read_bytes() == b"mine"
    file.unlink()
    with pytest.raises(FileNotFoundError):  # released in the meantime
        touch(file, b"mine")
    assert not file.exists()
