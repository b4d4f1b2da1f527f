"""A source that breaks is opened again where it broke: nothing is lost, nothing comes twice."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest

from distsae.errors import CannotContinue, WrongInput
from distsae.text import corpus, documents, text_files
from distsae.text.retrying import passes, retrying


def _http(status: int) -> Exception:
    error: Any = OSError(f"{status} from the server")
    error.response = type("Response", (), {"status_code": status})()
    return error


PASSING = [
    BrokenPipeError(),
    ConnectionResetError("reset by peer"),
    TimeoutError(),
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ESTALE, "Stale file handle"),
    _http(429),
    _http(503),
]
FINAL = [FileNotFoundError(errno.ENOENT, "gone"), PermissionError(errno.EACCES, "no"), _http(403), ValueError("text")]


class _Source:
    """Ten items; raises each error once, before the item whose number it has."""

    def __init__(self, errors: dict[int, list[BaseException]]) -> None:
        self.errors = errors

    def open_at(self, first):
        for number in range(first, 10):
            if self.errors.get(number):
                raise self.errors[number].pop()
            yield number


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_it_reads_on(error, capsys):
    assert passes(error)
    waited = []
    source = _Source({0: [error], 4: [error, error], 9: [error]})
    assert list(retrying(source.open_at, "tales", wait=waited.append)) == list(range(10))
    assert waited == [1, 1, 2, 1]  # the count begins anew with every item
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4
    assert said[1].startswith("tales could not be read at item 4 (")


def test_an_error_that_a_library_wraps_passes_as_well():
    wrapped = RuntimeError("generation failed")
    wrapped.__cause__ = ConnectionResetError("reset")
    assert passes(wrapped)


@pytest.mark.parametrize("error", FINAL, ids=repr)
def test_what_does_not_pass_is_raised_at_once(error):
    assert not passes(error)
    with pytest.raises(type(error)):
        list(retrying(_Source({3: [error]}).open_at, "tales", wait=pytest.fail))


def test_a_source_that_stays_away_is_one_line():
    error = BrokenPipeError()
    source = _Source({3: [error] * 5})
    with pytest.raises(
        CannotContinue, match=r"^tales could not be read at item 3 in 3 tries \(BrokenPipeError\); start"
    ):
        list(retrying(source.open_at, "tales", pauses=(0.0, 0.0), wait=lambda _: None))


def test_a_local_file_on_a_file_system_that_hangs(tmp_path, monkeypatch):
    texts = [f"text {number}" for number in range(20)]
    file = tmp_path / "corpus.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    parsed, failures = text_files._parsed, [3, 7, 7]

    def breaking(line, path, number):
        if failures and number == failures[0]:
            failures.pop(0)
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return parsed(line, path, number)

    monkeypatch.setattr(corpus, "_PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(text_files, "_parsed", breaking)
    assert list(documents(str(file))) == texts
    assert failures == []


def test_a_wrong_record_is_not_tried_again(tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"text": "a"}\n{"text": null}\n')
    with pytest.raises(WrongInput, match="line 2"):
        list(documents(str(tmp_path / "corpus.jsonl")))
