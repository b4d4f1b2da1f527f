"""The words of a command line, with YAML files written out and every value as its key takes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from distsae.checked_files import parse_yaml, read_yaml_mapping, shown
from distsae.cli.key_values import as_boolean, as_word, value_of, word_of
from distsae.errors import WrongInput, nearest

__all__ = ["TypedWords", "nearest_key", "quoted_key"]

_LONGEST_KEY = 100


class TypedWords:
    """The keys of a config class, by which the words of a command line get their values.

    Args:
        kinds: type of each key.
        flags: boolean keys that need no value.
        positionals: keys that are given without their names.
        known: all keys, and the groups of dotted ones.
    """

    def __init__(
        self, kinds: Mapping[str, Any], flags: frozenset[str], positionals: tuple[str, ...], known: Sequence[str]
    ) -> None:
        self._kinds = kinds
        self._flags = flags
        self._positionals = positionals
        self._known = known

    def typed(self, argv: Sequence[str]) -> list[str]:
        """Returns the words of a command line with files written out, first, and each value as its key takes it.

        Raises:
            WrongInput: a value does not fit its key; a file is missing or has an unknown key.
        """
        of_files: dict[str, Any] = {}
        words: list[str] = []
        bare: list[str] = []
        rest = list(argv)
        while rest:
            word = rest.pop(0)
            name, equals, value = word.removeprefix("--").partition("=")
            if not word.startswith("--"):
                bare.append(word)
            elif name.removeprefix("no_") in self._flags and name not in self._kinds.keys() - self._flags:
                words.append(self._flag(name, value if equals else None, rest))
            elif name in ("help", "print_config"):
                words.append(word)
            elif name not in self._known and name != "config":  # a key of a mapping, such as `grid.k`, or unknown
                words += [word, *([] if equals or not rest or rest[0].startswith("--") else [rest.pop(0)])]
            elif not equals and (not rest or rest[0].startswith("--")):
                raise WrongInput(f"`{name}` must have a value; got none; give one after --{name}")
            else:
                value = value if equals else rest.pop(0)
                if name == "config":
                    of_files |= self._in_file(value)
                elif name in self._kinds:
                    words += _given(name, word_of(name, value, self._kinds[name]))
                else:
                    words += self._words(self._group(name, value))
        if not bare:
            bare = [word for key in self._positionals if key in of_files for word in _listed(of_files[key])]
        given = {key: value for key, value in of_files.items() if key not in self._positionals}
        return [*self._words(given), *words, *bare]

    def _flag(self, name: str, value: str | None, rest: list[str]) -> str:
        """Returns `--name` or `--no_name`, by the value after `=` or in the next word, if that is one."""
        if value is None and rest and (as_boolean(rest[0]) is not None or rest[0] in ("0", "1")):
            value = rest.pop(0)
        key = name.removeprefix("no_") if name.removeprefix("no_") in self._flags else name
        wanted = True if value is None else as_boolean(value)
        if wanted is None:
            raise WrongInput(f"`{key}` (={value}) must be true or false; use --{key} or --no_{key}, without a value")
        return f"--{key}" if wanted == (name == key) else f"--no_{key}"

    def _words(self, values: Mapping[str, Any]) -> list[str]:
        words = []
        for key, value in values.items():
            if key in self._flags:
                words.append(f"--{key}" if value else f"--no_{key}")
            else:
                words += _given(key, as_word(value))
        return words

    def _in_file(self, path: str) -> dict[str, Any]:
        """Returns the values of a file by dotted key; an error names the file and the nearest key."""
        if not Path(path).is_file():
            raise WrongInput(f"`config` (={path}) must be a YAML file that exists; give the path of one")
        return self._values(read_yaml_mapping(Path(path), f"`config` (={path})", WrongInput), f" in {path}")

    def _group(self, name: str, word: str) -> dict[str, Any]:
        """Returns the values of a group such as `mesh`, which is given as a whole, by dotted key."""
        if Path(word).is_file():
            content: Any = read_yaml_mapping(Path(word), f"`{name}` (={word})", WrongInput)
        else:
            try:
                content = parse_yaml(word)
            except yaml.YAMLError:
                content = word
        return self._values({name: content})

    def _values(self, content: Mapping[str, Any], where: str = "", prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in content.items():
            key = f"{prefix}{name}"
            inside = [other for other in self._kinds if other.startswith(f"{key}.")]
            if inside and isinstance(value, dict):
                found |= self._values(value, where, f"{key}.")
            elif inside and value is not None:  # an empty group changes nothing
                raise WrongInput(f"`{key}` (={shown(value)}) must hold keys of its own{where}; use `{inside[0]}`, say")
            elif key in self._kinds:
                found[key] = value_of(key, value, self._kinds[key])
            elif not inside:
                raise WrongInput(
                    f"unknown key {quoted_key(key)}{where}{nearest_key(key, self._known, isinstance(value, dict))}"
                )
        return found


def _given(key: str, word: str) -> list[str]:
    """Returns a key with its value, in one word if the value looks like an option, as a negative number does."""
    return [f"--{key}={word}"] if word.startswith("-") else [f"--{key}", word]


def _listed(value: Any) -> list[str]:  # noqa: ANN401
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def quoted_key(key: str) -> str:
    """Returns a key for an error: as it is, or written out if it has line breaks or is as long as no key."""
    return f"`{key}`" if key.isprintable() and len(key) < _LONGEST_KEY else shown(key)


def nearest_key(name: str, known: Collection[str], group: bool = False) -> str:
    """Returns words that point at the key that was probably meant: one in a group with this last part, or a near one.

    Args:
        name: key that is not known.
        known: all keys, and the groups of dotted ones.
        group: whether a group of keys was given.
    """
    groups = {key.rpartition(".")[0] for key in known}
    names = {key for key in known if (key in groups) == group}
    if found := nearest(name, names) if "." in name else "":
        return found
    same = [key for key in names if key.rpartition(".")[2] == name.rpartition(".")[2]]
    if same:
        same.sort(key=lambda key: (key.startswith("sweep."), key))  # those that try several values last
        return f"; did you mean {' or '.join(map(repr, same))}?"
    return nearest(name, names)
