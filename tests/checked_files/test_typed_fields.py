from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import pytest

from distsae.checked_files import Between, WrongField, typed


class Pair(NamedTuple):
    size: Annotated[int, Between(0)]
    name: str = "none"


@dataclass(frozen=True)
class Inner:
    numbers: list[float]
    data: bytes = b""


@dataclass(frozen=True)
class Outer:
    count: Annotated[int, Between(1, 10)]
    kind: Literal["a", "b"]
    inner: dict[str, Inner]
    files: dict[str, Pair] = field(default_factory=dict)
    both: tuple[int, str] | None = None
    either: int | str = 0
    any: Any = None
    trees: "list[Outer]" = field(default_factory=list)


VALUES = {
    "count": 3,
    "kind": "a",
    "inner": {"x": {"numbers": [1, 2.5], "data": "AAE="}},
    "files": {"f": [1, "n"], "g": {"size": 2}},
    "both": [1, "one"],
    "either": "word",
    "any": {"deep": [1]},
    "trees": [{"count": 1, "kind": "b", "inner": {}}],
    "later": 1,
}


def test_values_become_typed_ones_and_unknown_fields_are_ignored():
    found = typed(Outer, VALUES)
    assert found.inner == {"x": Inner([1, 2.5], b"\0\1")}
    assert found.files == {"f": Pair(1, "n"), "g": Pair(2)}
    assert (found.both, found.either, found.any) == ((1, "one"), "word", {"deep": [1]})
    assert found.trees == [Outer(1, "b", {})]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"count": "3"}, "`count` must be a whole number; got '3'"),
        ({"count": True}, "`count` must be a whole number; got True"),
        ({"count": 3.0}, "`count` must be a whole number; got 3.0"),
        ({"count": 0}, "`count` must be at least 1 and at most 10; got 0"),
        ({"count": 10**4000}, "`count` must be at least 1 and at most 10; got a number of 13288 bits"),
        ({"count": None}, "`count` must be a whole number; got None"),
        ({"kind": "c"}, "`kind` must be one of a, b; got 'c'"),
        ({"kind": ["a"]}, "`kind` must be one of a, b; got list of 1"),
        ({"inner": []}, "`inner` must be an object; got empty list"),
        ({"inner": {"x": {}}}, "`inner.x.numbers` is missing"),
        ({"inner": {"x": {"numbers": [1, "2"]}}}, "`inner.x.numbers.1` must be a number; got '2'"),
        ({"inner": {"x": {"numbers": [10**400]}}}, "`inner.x.numbers.0` must be a number that is not so large"),
        ({"inner": {"x": {"numbers": [], "data": "?"}}}, "`inner.x.data` must be bytes in base64; got '?'"),
        ({"inner": {"\n": 1}}, r"`inner.'\\n'` must be an object; got 1"),
        ({"files": {"f": [1, "n", 2]}}, "`files.f` must be an object; got list of 3"),
        ({"files": {"f": [-1, "n"]}}, "`files.f.size` must be at least 0; got -1"),
        ({"both": [1]}, "`both` must be a list of 2; got list of 1"),
        ({"either": 1.5}, "`either` must be text; got 1.5"),
        ({"trees": [{}]}, "`trees.0.count` is missing"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(changes, words):
    with pytest.raises(WrongField, match=words) as error:
        typed(Outer, {**VALUES, **changes})
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("value", [None, [], 1, "text"])
def test_the_whole_may_be_wrong(value):
    with pytest.raises(WrongField, match="the whole must be an object"):
        typed(Outer, value)


def test_a_field_that_contains_itself_without_end():
    values = {"count": 1, "kind": "a", "inner": {}}
    values["trees"] = [values]
    with pytest.raises(WrongField, match="nested too deeply"):
        typed(Outer, values)
