"""Turns values from a file into typed ones: dataclasses, named tuples and containers, by their annotations.

A field that is missing, of another type or out of its range is named with its place in the file, such as
`sums.blocks.2.resid_post.norm`. Fields that no annotation knows are ignored, because a later version may have added
them. Fields with defaults may be missing, because an earlier version may not have had them.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import functools
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from distsae.checked_files.plain_names import shown

__all__ = ["Between", "WrongField", "typed"]

T = TypeVar("T")


class WrongField(ValueError):
    """A field is not what it must be; the text names it, without the file."""


@dataclass(frozen=True)
class Between:
    """The range of a number, or of the length of a list, as an annotation: `Annotated[int, Between(1)]`."""

    least: float
    most: float = 2**63 - 1


def typed(kind: type[T], value: object, at: str = "") -> T:
    """Returns `value`, as JSON or YAML gives it, as a value of type `kind`.

    Known are dataclasses and named tuples (from an object; a named tuple from a list as well), `dict[str, X]`,
    `list[X]`, `tuple[X, ...]`, `tuple[X, Y]`, `X | None`, `Literal`, `int`, `float`, `str`, `bool`, `bytes` (from
    base64), `Any`, and `Annotated[X, Between(...)]`.

    Args:
        kind: type that the value must have.
        value: value from the file.
        at: place of the value in the file, with dots; empty for the whole file.

    Raises:
        WrongField: it does not have that type; the text names the field.
    """
    annotation: Any = kind
    try:
        return cast(T, _reader(annotation)(value))
    except _WrongValue as wrong:
        place = ".".join([*([at] if at else []), *map(_name, reversed(wrong.path))])
        raise WrongField(f"{f'`{place}`' if place else 'the whole'} {wrong.what}") from None
    except RecursionError:
        raise WrongField("a field is nested too deeply") from None


class _WrongValue(Exception):
    """What is wrong with a value; each object or list around it appends the value's name or index to `path`.

    So names are put together only if something is wrong: a commit record has many fields.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.path: list[object] = []


_Reader = Callable[[object], Any]


@functools.cache
def _reader(kind: Any) -> _Reader:  # noqa: ANN401  (any annotation)
    """Returns the function that checks values of an annotation; made once for each, as stores have many records."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda value: value
    if kind in _PLAIN:
        return functools.partial(_plain, kind, *_PLAIN[kind])
    if kind is bytes:
        return _bytes
    if origin is Annotated:
        return functools.partial(_in_range, _reader(arguments[0]), arguments[1])
    if origin is Literal:
        return functools.partial(_choice, arguments)
    if origin in (Union, types.UnionType):
        return functools.partial(_union, arguments)
    if origin is dict:
        return functools.partial(_dictionary, arguments[1])
    if origin is list or (origin is tuple and arguments[1:] == (...,)):
        return functools.partial(_sequence, origin, arguments[0])
    if origin is tuple:
        return functools.partial(_pair, tuple(map(_reader, arguments)))
    return functools.partial(_record, kind)


_LARGEST = 10**300

_PLAIN: dict[Any, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "text"),
    bool: ((bool,), "true or false"),
    type(None): ((type(None),), "null"),
}


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, _Reader], frozenset[str]]:  # noqa: ANN401
    """Returns the readers of the fields of a class, and the names of those without a default."""
    hints = get_type_hints(kind, include_extras=True)
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
        needed = frozenset(field.name for field in dataclasses.fields(kind) if _has_no_default(field))
    else:
        names, needed = list(kind._fields), frozenset(kind._fields) - kind._field_defaults.keys()
    return {name: _reader(hints[name]) for name in names}, needed


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _plain(kind: Any, classes: tuple[type, ...], words: str, value: object) -> object:  # noqa: ANN401
    if type(value) not in classes:  # a subclass is not enough: true is no number
        raise _must_be(words, value)
    if kind is float and isinstance(value, int) and abs(value) > _LARGEST:
        raise _must_be("a number that is not so large", value)
    return value


def _bytes(value: object) -> bytes:
    try:
        return base64.b64decode(cast(str, _reader(str)(value)), validate=True)
    except (binascii.Error, ValueError):
        raise _must_be("bytes in base64", value) from None


def _in_range(read: _Reader, limits: Between, value: object) -> object:
    found = read(value)
    size = found if type(found) in (int, float) else len(found)
    if not limits.least <= size <= limits.most:
        what = "" if size is found else "of a length "
        most = "" if limits.most == Between(0).most else f" and at most {limits.most:,}"
        raise _must_be(f"{what}at least {limits.least:,}{most}", value)
    return found


def _choice(choices: tuple[object, ...], value: object) -> object:
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        raise _must_be(f"one of {', '.join(map(str, choices))}", value)
    return value


def _union(kinds: tuple[Any, ...], value: object) -> object:
    others = [kind for kind in kinds if kind is not type(None)]
    if value is None and len(others) < len(kinds):
        return None
    for kind in others[:-1]:
        try:
            return _reader(kind)(value)
        except _WrongValue:
            continue
    return _reader(others[-1])(value)


def _dictionary(kind: Any, value: object) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(value, dict):
        raise _must_be("an object", value)
    if any(type(name) is not str for name in value):
        raise _must_be("an object with names that are text", value)
    return _each(_reader(kind), value.items())


def _sequence(origin: Any, kind: Any, value: object) -> object:  # noqa: ANN401
    if not isinstance(value, list | tuple):
        raise _must_be("a list", value)
    if kind in _PLAIN and set(map(type, value)) <= {kind}:  # long lists of numbers, at once
        return origin(value)
    return origin(_each(_reader(kind), enumerate(value)).values())


def _pair(readers: tuple[_Reader, ...], value: object) -> tuple[object, ...]:
    if not isinstance(value, list | tuple) or len(value) != len(readers):
        raise _must_be(f"a list of {len(readers)}", value)
    return tuple(_inside(index, read, inner) for index, (read, inner) in enumerate(zip(readers, value, strict=True)))


def _record(kind: Any, value: object) -> object:  # noqa: ANN401
    readers, needed = _fields(kind)
    if isinstance(value, list) and issubclass(kind, tuple) and len(value) == len(readers):
        return _tuple(kind, readers, value)
    if not isinstance(value, Mapping):
        raise _must_be("an object", value)
    if missing := sorted(needed.difference(value)):
        wrong = _WrongValue("is missing")
        wrong.path.append(missing[0])
        raise wrong
    return kind(**{name: _inside(name, read, value[name]) for name, read in readers.items() if name in value})


def _tuple(kind: Any, readers: dict[str, _Reader], values: list[Any]) -> object:  # noqa: ANN401
    found: list[Any] = []
    try:
        for read, value in zip(readers.values(), values, strict=True):
            found.append(read(value))
    except _WrongValue as wrong:
        wrong.path.append(list(readers)[len(found)])
        raise
    return kind(*found)


def _inside(name: object, read: _Reader, value: object) -> Any:  # noqa: ANN401
    try:
        return read(value)
    except _WrongValue as wrong:
        wrong.path.append(name)
        raise


def _each(read: _Reader, items: Iterable[tuple[Any, object]]) -> dict[Any, Any]:
    found = {}
    for name, inner in items:
        try:
            found[name] = read(inner)
        except _WrongValue as wrong:
            wrong.path.append(name)
            raise
    return found


def _name(name: object) -> str:
    return name if isinstance(name, str) and len(name) < 100 and name.isprintable() else shown(name)


def _must_be(what: str, value: object) -> _WrongValue:
    return _WrongValue(f"must be {what}; got {shown(value)}")
