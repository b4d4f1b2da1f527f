"""Values mean what users expect of them, whatever YAML 1.1 makes of their spelling."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from distsae.checked_files import parse_yaml
from distsae.cli.key_values import as_boolean, as_word, key_types, value_of, word_of
from distsae.errors import WrongInput

Rate = float | Literal["auto"]


@dataclass(frozen=True)
class Inside:
    """A group."""

    count: int = 1


@dataclass(frozen=True)
class Grouped:
    """A config with a group."""

    inside: Inside = field(default_factory=Inside)
    name: str | None = None


def test_types_of_all_keys():
    assert key_types(Grouped) == {"inside.count": int, "name": str | None}


@pytest.mark.parametrize(
    ("word", "kind", "means"),
    [
        ("1e4", int, 10_000),
        ("2.5e3", int | None, 2500),
        ("3.0", int, 3),
        ("0100", int, 100),
        ("1_000", int, 1000),
        ("-7", int, -7),
        ("null", int | None, None),
        ("1e-3", float, 1e-3),
        ("5", float, 5),
        ("auto", Rate, "auto"),
        ("2", Rate, 2),
        ("blocks.3.resid_post", tuple[str, ...], ["blocks.3.resid_post"]),
        ("a.b, c.d", tuple[str, ...], ["a.b", "c.d"]),
        ("[a]", tuple[str, ...], ["a"]),
        ("[]", tuple[str, ...], []),
        ("16,32", tuple[int, ...], [16, 32]),
        ("[1e1, 2]", tuple[int, ...], [10, 2]),
        ("1e-3", tuple[Rate, ...], [1e-3]),
        ("{a: 1e3}", dict[str, Any], {"a": 1e3}),
        ("yes", bool, True),
        ("Off", bool, False),
    ],
)
def test_words_of_the_command_line(word, kind, means):
    found = parse_yaml(word_of("key", word, kind))
    assert found == means
    assert type(found) is type(means)


@pytest.mark.parametrize("word", ["yes", "0100", "1:30", "null", "[a, b]", "1e4", ""])
def test_text_is_never_changed(word):
    assert word_of("key", word, str) == word_of("key", word, str | None) == word
    assert word_of("key", word, str | list[str]) == word


@pytest.mark.parametrize(
    ("word", "kind", "words"),
    [
        ("1:30", int, "a whole number"),
        ("1.5", int | None, "a whole number or null"),
        ("0b11", int, "a whole number"),
        ("1,000", int, "a whole number"),
        ("many", float, "a number"),
        ("true", int, "a whole number"),
        ("null", int, "a whole number"),
        ("", int | None, "a whole number or null"),
        ("[1", tuple[int, ...], "a list, each value a whole number"),
        ("1.5", tuple[int, ...], "a list, each value a whole number"),
        ("1:30", Rate, "a number or auto"),
        ("fast", Literal["on", "off"], "one of 'on', 'off'"),
        ("3", dict[str, Any], "a mapping of keys to values"),
        ("2", bool, "true or false"),
    ],
)
def test_words_that_do_not_fit(word, kind, words):
    with pytest.raises(WrongInput) as caught:
        word_of("a.key", word, kind)
    assert str(caught.value) == f"`a.key` (={word}) must be {words}"


@pytest.mark.parametrize(
    ("value", "kind", "means"),
    [
        (1e3, int, 1000),
        ("3", int, 3),
        ("yes", bool, True),
        (False, bool, False),
        ("yes", str, "yes"),
        ("a", tuple[str, ...], ["a"]),
        (("a", "b"), tuple[str, ...], ["a", "b"]),
        ([{"k": [1]}], dict[str, Any] | list[dict[str, Any]], [{"k": [1]}]),
        (None, float | None, None),
    ],
)
def test_values_of_files(value, kind, means):
    assert value_of("key", value, kind) == means


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (100, str, "`key` (=100) must be text; put it in quotes"),
        (True, str | None, "`key` (=True) must be text or null; put it in quotes"),
        (True, int, "`key` (=True) must be a whole number"),
        ("1:30", int, "`key` (=1:30) must be a whole number"),
        (1, bool, "`key` (=1) must be true or false"),
        (None, float, "`key` (=None) must be a number"),
        ([1.5], tuple[int, ...], "`key` (=list of 1) must be a list, each value a whole number"),
        ({"a": 1}, str, "`key` (=dict of 1) must be text"),
        (float("inf"), int, "`key` (=inf) must be a whole number"),
    ],
)
def test_values_of_files_that_do_not_fit(value, kind, message):
    with pytest.raises(WrongInput) as caught:
        value_of("key", value, kind)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "value", [0, -1, 1e-30, 1e300, float("inf"), None, True, [], ["on", "1:30", "0100", 3], {"a": {"b": [1e-3]}}]
)
def test_a_word_reads_as_the_value_it_was_made_of(value):
    assert parse_yaml(as_word(value)) == value
    assert "\n" not in as_word(value)


def test_booleans_in_words():
    assert [as_boolean(word) for word in ("TRUE", "no", "0", "maybe")] == [True, False, None, None]
