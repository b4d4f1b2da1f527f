"""Files are replaced whole, published once, and never overwritten by accident."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from distsae.durable import as_new_files_are, beside, publish, replace, replacing, sync, write_new


def _fail(*_: object) -> None:
    raise OSError("full")


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_overwritten_by_accident(tmp_path: Path) -> None:
    write_new(tmp_path / "file", b"one")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "file", b"two")
    assert (tmp_path / "file").read_bytes() == b"one"


def test_content_is_replaced(tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        replace(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    sync(tmp_path)
    sync(tmp_path / "file")
    assert _names(tmp_path) == ["file"]


def test_a_failure_leaves_the_old_content_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(tmp_path / "file", b"one")
    monkeypatch.setattr("os.fsync", _fail)
    with pytest.raises(OSError, match="full"):
        replace(tmp_path / "file", b"two")
    assert _names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"one"


def test_a_file_that_another_library_writes_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"two")
        assert path.read_bytes() == b"one"
    assert path.read_bytes() == b"two"
    assert _names(tmp_path) == ["file"]


def test_a_block_that_fails_leaves_the_old_content_and_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"tw")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        write_half()
    with pytest.raises(FileNotFoundError), replacing(path):
        pass  # writes nothing
    assert path.read_bytes() == b"one"
    assert _names(tmp_path) == ["file"]


def test_what_a_killed_process_left_under_a_lasting_name_is_overwritten(tmp_path: Path) -> None:
    left = tmp_path / ".file.tmp"
    left.write_bytes(b"left behind")
    with replacing(tmp_path / "file", left) as temporary:
        assert temporary == left
        temporary.write_bytes(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert _names(tmp_path) == ["file"]


def test_the_content_is_on_the_disk_before_the_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "file", []
    monkeypatch.setattr("distsae.durable.sync", lambda what: synced.append((what, path.exists())))
    with replacing(path) as temporary:
        temporary.write_bytes(b"one")
    assert synced == [(temporary, False), (tmp_path, True)]


def test_of_many_publishers_one_wins(tmp_path: Path) -> None:
    path, won, barrier = tmp_path / "file", [], threading.Barrier(6)

    def race(number: int) -> None:
        barrier.wait()
        if publish(path, b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [b"%d" % number for number in won] == [path.read_bytes()]
    assert _names(tmp_path) == ["file"]


def test_publishing_succeeds_when_only_the_answer_of_the_link_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network file system repeats the request then, and reports that the name exists."""
    real = os.link

    def link(source: Path, target: Path) -> None:
        real(source, target)
        raise FileExistsError(17, "File exists", str(target))

    monkeypatch.setattr(os, "link", link)
    assert publish(tmp_path / "file", b"mine")
    assert not publish(tmp_path / "file", b"another's")
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_publishing_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.link", _fail)
    with pytest.raises(OSError, match="full"):
        publish(tmp_path / "file", b"one")
    assert _names(tmp_path) == []


def test_hidden_names_are_fresh(tmp_path: Path) -> None:
    first, second = (beside(tmp_path / "file") for _ in range(2))
    assert first != second
    assert first.name.startswith(".file-")
    assert first.parent == tmp_path


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_a_file_of_a_library_gets_the_mode_of_new_files(umask, tmp_path):
    before = os.umask(umask)
    try:
        private, ordinary = tmp_path / "private", tmp_path / "ordinary"
        private.touch(mode=0o600)
        ordinary.touch()
        as_new_files_are(private)
    finally:
        os.umask(before)
    assert private.stat().st_mode == ordinary.stat().st_mode
    assert sorted(tmp_path.iterdir()) == [ordinary, private]


def _answer(number: int):
    def missing(*args: object, **options: object) -> None:
        raise OSError(number, os.strerror(number), str(args[0]))

    return missing


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS])
def test_without_hard_links_one_publisher_wins_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("os.link", _answer(number))
    test_of_many_publishers_one_wins(tmp_path)
    assert not publish(tmp_path / "file", b"another's")
    assert publish(tmp_path / "second", b"mine")
    assert publish(tmp_path / "second", b"mine")
    assert _names(tmp_path) == ["file", "second"]


def test_without_hard_links_and_renames_to_a_free_name_nothing_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.link", _answer(errno.EOPNOTSUPP))
    monkeypatch.setattr("distsae.durable._rename_to_free_name", lambda old, new: False)
    with pytest.raises(OSError, match="not supported"):
        publish(tmp_path / "file", b"one")
    assert _names(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF])
def test_a_list_of_names_that_cannot_be_forced_to_the_disk_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = os.fsync
    folders = lambda file: stat.S_ISDIR(os.fstat(file).st_mode)  # noqa: E731
    monkeypatch.setattr("os.fsync", lambda file: _answer(number)(file) if folders(file) else real(file))
    replace(tmp_path / "file", b"one")
    assert publish(tmp_path / "second", b"two")
    monkeypatch.setattr("os.fsync", _answer(number))
    with pytest.raises(OSError, match=os.strerror(number)):  # the content itself has to be there
        replace(tmp_path / "file", b"two")
