import errno

import pytest

from distsae.errors import CannotContinue, TornData
from distsae.producer import work
from distsae.store import HookSums, UnitRecord
from distsae.store.commit import publish_json


def _record():
    return UnitRecord(
        index=0, split="train", attempt="unit-000000/a", contexts=1, rows=1, fingerprint="f", digest="d",
        sums={"h": HookSums(x=[0.0], norm=0.0, norm_squared=0.0)}, files={},
    )  # fmt: skip


def _raising(error):
    def write_attempt(*args):
        raise error

    return write_attempt


def test_full_disk_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "write_attempt", _raising(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(CannotContinue, match="do make room and run it again"):
        work._write_and_commit(tmp_path, None, 0, "train", None)
    monkeypatch.setattr(work, "write_attempt", _raising(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input/output"):
        work._write_and_commit(tmp_path, None, 0, "train", None)


@pytest.mark.parametrize("error", [FileNotFoundError("x"), TornData("lost files")])
def test_attempt_that_was_collected_matters_only_if_nobody_committed(tmp_path, monkeypatch, error):
    monkeypatch.setattr(work, "write_attempt", _raising(error))
    with pytest.raises(type(error)):
        work._write_and_commit(tmp_path, None, 0, "train", None)
    publish_json(tmp_path / "commits" / "unit-000000.json", _record().to_json())
    work._write_and_commit(tmp_path, None, 0, "train", None)
