"""Which part of a stream ends when, and with which exit code; real streams are in `tests/end_to_end`."""

import signal

import pytest

from distsae.cli.parsing import from_keys
from distsae.exit_codes import DONE, FAILED, STOPPED
from distsae.recipes.stream import stream
from tests.recipes.stream.samples import config


class Parts:
    """Stands for the two launches: each ends with the next of its codes; None is a look at one that still runs."""

    def __init__(self, out, produce: list, train: list, store_after: int = 0) -> None:
        self.codes = {"produce": produce, "train": train}
        self.sent: list[tuple[str, signal.Signals]] = []
        self._store = out / "store" / "dataset.json"
        self._looks_before_store = store_after

    def __call__(self, part, restarts, grace, log=None):
        return _Part(self, part.name, log)

    def look(self, name: str) -> int | None:
        codes = self.codes[name]
        if name == "produce" and self._looks_before_store >= 0:
            self._looks_before_store -= 1
            if self._looks_before_store < 0:
                self._store.parent.mkdir(parents=True, exist_ok=True)
                self._store.touch()
        return codes.pop(0) if len(codes) > 1 else codes[0]


class _Part:
    written_before = 0

    def __init__(self, parts: Parts, name: str, log) -> None:
        self._parts, self._name = parts, name
        if log is not None:
            log.write_text("tokenise: 100%\nproduce: no such model\n")

    def code(self):
        return self._parts.look(self._name)

    def send(self, number) -> None:
        self._parts.sent.append((self._name, number))
        self._parts.codes[self._name] = [STOPPED]

    def wait(self) -> int:
        code = self.code()
        assert code is not None
        return code


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "_POLL", 0.0)

    def started(parts: Parts) -> int:
        monkeypatch.setattr(stream, "StreamLaunch", parts)
        return stream.run_stream(config(tmp_path), from_keys)

    return started


def test_producers_are_stopped_when_the_training_is_done(run, tmp_path):
    parts = Parts(tmp_path, [None], [None, None, DONE], store_after=3)
    assert run(parts) == DONE
    assert parts.sent == [("produce", signal.SIGTERM)]


def test_the_training_goes_on_when_the_producers_are_done(run, tmp_path):
    assert run(Parts(tmp_path, [None, None, DONE], [None] * 9 + [DONE])) == DONE


def test_the_training_stops_when_the_producers_fail(run, tmp_path, capsys):
    parts = Parts(tmp_path, [None, None, FAILED], [None])
    assert run(parts) == FAILED
    assert parts.sent == [("train", signal.SIGTERM)]
    assert "saves a checkpoint and stops" in capsys.readouterr().err


def test_no_training_starts_without_a_store(run, tmp_path, capsys):
    parts = Parts(tmp_path, [None, None, 2], [DONE], store_after=100)
    assert run(parts) == 2
    assert not parts.sent
    assert "produce: no such model" in capsys.readouterr().err


def test_the_code_of_the_training_is_the_code_of_the_stream(run, tmp_path):
    assert run(Parts(tmp_path, [None], [None, 3])) == 3


def test_a_dry_run_starts_nothing_and_shows_both_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(stream, "StreamLaunch", None)
    assert stream.run_stream(config(tmp_path, dry_run=True), from_keys) == DONE
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(f"-m distsae produce --config {tmp_path / 'produce.yaml'}")
    assert second.endswith(f"-m distsae train --config {tmp_path / 'train.yaml'}")
