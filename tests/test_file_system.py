"""What a file system lacks is found before the work begins, and named in one line; nothing is left behind."""

import errno
import os

import pytest

from distsae.errors import WrongInput
from distsae.file_system import missing_operation, require_operations


@pytest.fixture
def without(monkeypatch):
    """Makes a function of `os` fail as on a file system that lacks it."""

    def install(name, number):
        def missing(*args, **options):
            raise OSError(number, os.strerror(number), args[0])

        monkeypatch.setattr(f"os.{name}", missing)

    return install


def test_an_ordinary_folder_lacks_nothing(tmp_path):
    assert missing_operation(tmp_path, publishing=True) is None
    require_operations(tmp_path / "not" / "there", "out", publishing=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS])
@pytest.mark.parametrize("renames", [True, False])
def test_hard_links(tmp_path, without, monkeypatch, number, renames):
    without("link", number)
    if renames:
        assert missing_operation(tmp_path, publishing=True) is None
        return
    monkeypatch.setattr("distsae.durable._rename_to_free_name", lambda old, new: False)
    assert missing_operation(tmp_path, publishing=False) is None
    with pytest.raises(WrongInput) as error:
        require_operations(tmp_path / "s", "out", publishing=True)
    assert str(error.value) == (
        f"`out` (={tmp_path}/s) must be on a file system that can create a file only if its name is free (by a hard "
        f"link, or by a rename to a free name); got `{os.strerror(number)}` for {tmp_path}; use a folder on another "
        "one, or the URL of the bucket (s3://, gs://, az://) if this is a mount of one"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EXDEV, errno.ENOSYS])
def test_renames(tmp_path, without, number):
    without("rename", number)
    without("replace", number)
    assert "replace a file" in missing_operation(tmp_path, publishing=False)
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_replaces_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr("os.link", os.replace)
    assert "only if its name is free" in missing_operation(tmp_path, publishing=True)


def test_a_full_disk_lacks_nothing(tmp_path, without):
    without("fsync", errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        require_operations(tmp_path, "out", publishing=True)
    assert list(tmp_path.iterdir()) == []
