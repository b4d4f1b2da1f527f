import pytest

from distsae.checked_files import parse_json, read_json_object
from distsae.errors import TornData, WrongInput


def test_an_object_is_read(tmp_path):
    (tmp_path / "f").write_text('{"a": [1, NaN], "b": "\\udc80"}')
    assert read_json_object(tmp_path / "f")["b"] == "\udc80"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not valid JSON"),
        (b"\xff\xfe", "is not valid JSON"),
        (b"{", "is not valid JSON"),
        (b"[" * 100_000, "is nested too deeply"),
        (b"[" * 101 + b"]" * 101, "is nested too deeply"),
        (b"1" * 5000, "is not valid JSON"),
        (b"[" + b"{}," * 4_000_000 + b"{}]", "must have at most 4,000,000 values"),
    ],
)
def test_everything_else_is_one_line(content, words):
    with pytest.raises(TornData, match=f"file {words}") as error:
        parse_json(content, "file")
    assert len(str(error.value)) < 300


def test_something_else_than_an_object(tmp_path):
    (tmp_path / "f").write_text("[1, 2]")
    with pytest.raises(WrongInput, match="must be a JSON object; got list of 2"):
        read_json_object(tmp_path / "f", WrongInput)
    with pytest.raises(TornData, match="at most 3 bytes"):
        read_json_object(tmp_path / "f", most=3)
