import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from distsae.errors import CannotContinue, WrongInput
from distsae.store.object_path import ObjectPath


@pytest.fixture
def folder(object_store):
    return ObjectPath(f"{object_store}/{uuid.uuid4().hex}")


def test_names(folder):
    file = folder / "commits" / "unit-000001.json"
    assert str(file) == f"{folder}/commits/unit-000001.json"
    assert (file.name, file.stem, str(file.parent)) == ("unit-000001.json", "unit-000001", f"{folder}/commits")
    assert file == ObjectPath(str(folder), "commits/unit-000001.json") == ObjectPath(str(file))
    assert len({file, ObjectPath(str(file))}) == 1


def test_content(folder):
    file = folder / "a" / "b"
    assert not file.exists()
    assert not (folder / "a").is_dir()
    for read in (file.read_bytes, file.stat, file.unlink, lambda: file.read_range(0, 3)):
        with pytest.raises(FileNotFoundError) as raised:
            read()
        assert raised.value.filename == str(file)
    file.write_bytes(b"one")
    file.write_bytes(b"three")
    assert file.read_bytes() == b"three"
    assert [bytes(file.read_range(*part)) for part in ((0, 2), (1, 3), (2, 99), (0, 0))] == [b"th", b"hre", b"ree", b""]
    assert file.stat().st_size == 5
    assert (file.is_file(), file.is_dir()) == (True, False)
    assert ((folder / "a").is_file(), (folder / "a").is_dir()) == (False, True)
    file.unlink()
    file.unlink(missing_ok=True)
    assert not file.exists()


def test_listing(folder):
    for name in ("x", "a/1", "a/2", "a/deep/3", "ab/4"):
        (folder / name).write_bytes(b"")
    assert sorted(path.name for path in folder.iterdir()) == ["a", "ab", "x"]
    assert sorted(path.name for path in (folder / "a").iterdir()) == ["1", "2", "deep"]
    assert sorted(str(path) for path in (folder / "a").files()) == [f"{folder}/a/{n}" for n in ("1", "2", "deep/3")]
    assert list((folder / "nothing").iterdir()) == []


def test_of_many_creators_one_wins(folder):
    for number in range(5):
        file = folder / f"race-{number}"
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda who, file=file: file.create(f"{who}".encode()), range(16)))
        assert sum(won) == 1
        assert file.read_bytes() == f"{won.index(True)}".encode()


def test_an_answer_that_was_lost_does_not_lose_the_object(folder):
    """The first request reached the server, but its answer was lost; the second one finds the object of the first."""
    file = folder / "record"
    assert file.create(b"mine")
    assert file.create(b"mine")
    assert not file.create(b"another's")


@pytest.mark.usefixtures("object_store")
def test_a_bucket_that_cannot_be_reached_is_an_error_of_one_line():
    gone = ObjectPath("s3://no-such-bucket/store")
    for act in (lambda: (gone / "a").create(b""), (gone / "a").read_bytes, gone.is_dir, lambda: list(gone.iterdir())):
        with pytest.raises(WrongInput, match="in a bucket that exists"):
            act()
    assert not (gone / "a").is_file()  # the server's answer does not say that the bucket is missing
    with pytest.raises(WrongInput, match="must be a folder or the URL"):
        ObjectPath("nosuch://bucket/store").read_bytes()


def test_an_object_that_is_removed_while_its_content_is_compared(folder, monkeypatch):
    file = folder / "claim"
    file.create(b"another's")

    def gone(path):
        raise FileNotFoundError(2, "no such object", str(path))

    monkeypatch.setattr(ObjectPath, "read_bytes", gone)
    assert not file.create(b"mine")


@pytest.mark.usefixtures("object_store")
def test_a_server_that_is_not_there(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("distsae.store.object_path._RETRIES", 0)
    with pytest.raises(CannotContinue, match=r"s3://bucket/gone/\S+ could not be read: .*check credentials, endpoint"):
        (ObjectPath("s3://bucket/gone") / "x").read_bytes()
