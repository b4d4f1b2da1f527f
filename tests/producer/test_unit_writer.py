import errno
import threading

import pytest

from distsae.errors import CannotContinue, TornData
from distsae.producer import unit_writer
from distsae.producer.unit_writer import UnitWriter, commit_data
from distsae.store import (
    Claims,
    HookSums,
    StorePaths,
    UnitRecord,
    begin_store,
    collect_orphans,
    committed_units,
    release,
)
from distsae.store.json_files import publish_json
from distsae.store.writer import write_attempt
from tests.store.synthetic import attributes, unit_data


def _record():
    return UnitRecord(
        index=0, split="train", attempt="unit-000000/a", contexts=1, rows=1, fingerprint="f", digest="d",
        sums={"h": HookSums(x=[0.0], norm=0.0, norm_squared=0.0)}, files={},
    )  # fmt: skip


def _raising(error):
    def write_attempt(*args):
        raise error

    return write_attempt


def test_a_full_disk_is_an_error_of_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(unit_writer, "write_attempt", _raising(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(CannotContinue, match=r"make room: .* then run it again"):
        commit_data(tmp_path, attributes(), 0, "train", None)
    monkeypatch.setattr(unit_writer, "write_attempt", _raising(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input/output"):
        commit_data(tmp_path, attributes(), 0, "train", None)


@pytest.mark.parametrize("error", [FileNotFoundError("x"), TornData("lost files")])
def test_a_removed_attempt_is_an_error_only_if_its_unit_is_not_committed(tmp_path, monkeypatch, error):
    monkeypatch.setattr(unit_writer, "write_attempt", _raising(error))
    with pytest.raises(type(error)):
        commit_data(tmp_path, attributes(), 0, "train", None)
    publish_json(tmp_path / "commits" / "unit-000000.json", _record().to_json())
    commit_data(tmp_path, attributes(), 0, "train", None)


@pytest.mark.parametrize("error", [FileNotFoundError("x"), TornData("lost files")])
def test_a_removed_attempt_of_a_released_unit_is_no_error(tmp_path, monkeypatch, error):
    attrs = attributes(contexts=200, keep_units=4)
    begin_store(tmp_path, attrs)
    monkeypatch.setattr(unit_writer, "write_attempt", _raising(error))
    with pytest.raises(type(error)):
        commit_data(tmp_path, attrs, 0, "train", None)
    release(tmp_path, "a run", 1)
    commit_data(tmp_path, attrs, 0, "train", None)


@pytest.fixture
def store(tmp_path):
    """An empty store, its attributes, and claims on its first two units."""
    attrs = attributes()
    begin_store(tmp_path, attrs)
    with Claims(StorePaths(tmp_path).claims) as claims:
        assert claims.take("unit-000000")
        assert claims.take("unit-000001")
        yield tmp_path, attrs, claims


@pytest.fixture
def gate(monkeypatch):
    """An event; units are written only after it is set."""
    opened = threading.Event()

    def write_when_opened(*args):
        assert opened.wait(60)
        return write_attempt(*args)

    monkeypatch.setattr(unit_writer, "write_attempt", write_when_opened)
    yield opened
    opened.set()


def _claims(root):
    return sorted(path.name for path in (root / "claims").iterdir())


def test_one_unit_is_written_while_the_next_is_computed(store, gate):
    root, attrs, claims = store
    with UnitWriter(root, attrs, claims) as writer:
        writer.put(0, unit_data(attrs, 0))  # returns although nothing can be written yet
        writer.check()
        assert committed_units(root, 9) == set()
        assert _claims(root) == ["unit-000000", "unit-000001"]  # claimed until it is committed
        gate.set()
        writer.put(1, unit_data(attrs, 1))  # waits for unit 0
        assert 0 in committed_units(root, 9)
        assert "unit-000000" not in _claims(root)
    assert committed_units(root, 9) == {0, 1}
    assert _claims(root) == []


def test_a_unit_that_is_being_written_is_committed_when_the_work_ends_early(store, gate):
    root, attrs, claims = store
    with pytest.raises(KeyboardInterrupt), UnitWriter(root, attrs, claims) as writer:  # noqa: PT012
        writer.put(0, unit_data(attrs, 0))
        gate.set()
        raise KeyboardInterrupt
    assert committed_units(root, 9) == {0}
    assert collect_orphans(root).attempts == 0


def test_an_error_in_the_thread_is_raised_by_the_next_call_and_only_once(store, monkeypatch):
    root, attrs, claims = store
    failed = threading.Event()

    def full(*args):
        failed.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(unit_writer, "write_attempt", full)
    with UnitWriter(root, attrs, claims) as writer:
        writer.put(0, unit_data(attrs, 0))
        assert failed.wait(60)
        with pytest.raises(CannotContinue, match="full disk"):  # noqa: PT012
            while True:
                writer.check()
        writer.check()
    assert _claims(root) == ["unit-000001"]
    with pytest.raises(CannotContinue, match="full disk"), UnitWriter(root, attrs, claims) as writer:
        writer.put(1, unit_data(attrs, 1))


def test_data_is_freed_when_it_is_committed(store):
    import weakref

    root, attrs, claims = store
    with UnitWriter(root, attrs, claims) as writer:
        data = unit_data(attrs, 0)
        alive = weakref.ref(data)
        writer.put(0, data)
        del data
        writer.wait()
        writer._thread.submit(int).result()  # the thread may hold the data for a moment after `wait`
        assert alive() is None
