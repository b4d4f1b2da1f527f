import errno
import os
import re
from types import SimpleNamespace

import pytest

from distsae.disk_room import way_out
from distsae.errors import CannotContinue


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "make room: [0-9,]+ bytes are free now"),
        (errno.EDQUOT, "your quota on that disk is used up: remove files of yours, or have it raised"),
        (errno.EFBIG, r"the largest file that may be written is smaller: raise `ulimit -f`"),
        (errno.EACCES, "make the folder writable again"),
        (errno.EROFS, "make the folder writable again"),
        (errno.EIO, "check the disk"),
    ],
)
def test_each_kind_of_failed_write_has_its_own_way_out(number, words, tmp_path):
    error = OSError(number, os.strerror(number))
    caused = CannotContinue("it could not be written")
    caused.__cause__ = error
    foreign = RuntimeError(f"I/O error: {os.strerror(number)} (os error {number})")
    for given in (error, caused, foreign):
        assert re.match(words, way_out(given, tmp_path / "not" / "yet")), way_out(given, tmp_path)


def test_a_disk_without_room_for_another_file(tmp_path, monkeypatch):
    full = SimpleNamespace(f_files=1000, f_favail=0, f_bavail=10**6, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    assert way_out(OSError(errno.ENOSPC, ""), tmp_path) == "the disk holds as many files as it can: remove some"


def test_an_error_without_a_number(tmp_path):
    assert way_out(RuntimeError("odd"), tmp_path) == "check the disk"
