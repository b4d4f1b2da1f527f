"""What a value means for a key: by the type of the key, on the command line, in a YAML file and in a study alike.

A whole number may be written `1e4`, a list without brackets, a boolean as yes, no, on or off. What does not fit is
refused by name, before jsonargparse sees it: numbers it reads as YAML 1.1 does, where `1:30` is 90.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from distsae.checked_files import parse_yaml, shown
from distsae.errors import WrongInput

__all__ = ["as_boolean", "as_word", "key_types", "value_of", "word_of"]

_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    types.NoneType: "null",
    dict: "a mapping of keys to values",
}


class _Unfit(Exception):
    """A value is not of the type that its key has."""


def key_types(config_class: type[Any], prefix: str = "") -> dict[str, Any]:
    """Returns the type of each key of a config class, with dotted names for the fields of nested classes."""
    found: dict[str, Any] = {}
    for name, kind in get_type_hints(config_class).items():
        if dataclasses.is_dataclass(kind):
            found |= key_types(kind, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            found[f"{prefix}{name}"] = kind
    return found


def as_boolean(word: str) -> bool | None:
    """Returns what a word such as `yes` or `False` means for a boolean key; None for another word."""
    return _BOOLEANS.get(word.lower())


def value_of(key: str, value: Any, kind: Any) -> Any:  # noqa: ANN401
    """Returns a value of a YAML file or a study as its key takes it.

    Args:
        key: name of the key, for the error.
        value: value as YAML gives it.
        kind: type of the key.

    Raises:
        WrongInput: the value is of another type.
    """
    try:
        if isinstance(value, str) and not _takes_text(kind):  # "3" in quotes is a number, too
            return _fitted(_parsed(value, kind), kind)
        return _fitted(value, kind)
    except _Unfit:
        quotes = "; put it in quotes" if _takes_text(kind) and not isinstance(value, dict | list) else ""
        text = value if isinstance(value, str) and value.isprintable() else shown(value)
        raise WrongInput(f"`{key}` (={text}) must be {_in_words(kind)}{quotes}") from None


def word_of(key: str, word: str, kind: Any) -> str:  # noqa: ANN401
    """Returns a word of the command line as jsonargparse reads it for a key.

    Args:
        key: name of the key, for the error.
        word: the value as the user wrote it.
        kind: type of the key.

    Raises:
        WrongInput: the word means a value of another type.
    """
    if _takes_text(kind):
        return word
    try:
        return as_word(_fitted(_parsed(word, kind), kind))
    except _Unfit:
        raise WrongInput(f"`{key}` (={word}) must be {_in_words(kind)}") from None


def as_word(value: Any) -> str:  # noqa: ANN401
    """Returns a value as one word of the command line; text stays as it is."""
    if isinstance(value, str):
        return value
    return (
        yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1 << 30)
        .removesuffix("\n")
        .removesuffix("\n...")
    )


def _parsed(word: str, kind: Any) -> Any:  # noqa: ANN401
    is_list = any(get_origin(option) in (tuple, list) for option in _options(kind))
    bare = is_list and not word.lstrip().startswith(("[", "{"))
    if not word.strip():
        raise _Unfit
    try:
        return parse_yaml(f"[{word}]" if bare else word)
    except yaml.YAMLError:
        raise _Unfit from None


def _options(kind: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _takes_text(kind: Any) -> bool:  # noqa: ANN401
    return any(option is str for option in _options(kind))


def _fitted(value: Any, kind: Any) -> Any:  # noqa: ANN401
    options = _options(kind)
    if len(options) == 1:
        return _fitted_to_one(value, kind)
    for option in options:
        try:
            return _fitted_to_one(value, option)
        except _Unfit:
            continue
    raise _Unfit


def _fitted_to_one(value: Any, kind: Any) -> Any:  # noqa: ANN401
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if kind is Any:
        return value
    if origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
    elif origin in (tuple, list):
        if value is not None:
            return [_fitted(item, arguments[0]) for item in (value if isinstance(value, list | tuple) else [value])]
    elif origin is dict:
        if isinstance(value, Mapping):
            return value
    elif kind is bool:
        found = as_boolean(value) if isinstance(value, str) else value
        if isinstance(found, bool):
            return found
    elif kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    elif type(value) is kind or (kind is float and type(value) is int):  # true is no number
        return value
    elif kind is types.NoneType and value is None:
        return None
    raise _Unfit


def _in_words(kind: Any) -> str:  # noqa: ANN401
    return " or ".join(map(_one_in_words, _options(kind)))


def _one_in_words(kind: Any) -> str:  # noqa: ANN401
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}" if len(arguments) > 1 else str(arguments[0])
    if origin in (tuple, list):
        return f"a list, each value {_in_words(arguments[0])}"
    return _WORDS.get(origin, str(kind))
