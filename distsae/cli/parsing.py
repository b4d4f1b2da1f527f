"""Turns the command line and YAML files into typed configs; every command parses with `parse`.

jsonargparse does the work. Added here: booleans as YAML 1.2 defines them (so that `wandb: off` is the word off), and
errors of one line that name the nearest known key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ActionYesNo, ArgumentError, ArgumentParser, DefaultHelpFormatter, set_loader

from distsae.checked_files import parse_yaml, read_yaml_mapping, shown
from distsae.errors import WrongInput, nearest
from distsae.nested_keys import flat_keys

__all__ = ["from_keys", "parse"]

Config = TypeVar("Config")

_NO_KEYS = ("config", "help", "print_config")
_LONGEST_KEY = 100
"""Options that every parser has beside the fields of the config class."""


set_loader("yaml", parse_yaml, exceptions=(yaml.YAMLError,))


class _Formatter(DefaultHelpFormatter):
    """Keeps the lines of the examples as they are written; jsonargparse would wrap them."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text.strip():
            return "\n".join(indent + line for line in text.strip("\n").splitlines())
        return super()._fill_text(text, width, indent)


def parse(
    config_class: type[Config],
    argv: Sequence[str],
    *,
    prog: str,
    examples: str,
    help: str,
    positionals: Sequence[str] = (),
) -> Config:
    """Reads `argv` into an instance of the frozen dataclass `config_class`.

    Nested dataclasses become dotted keys (`--sae.d_sae 4096`). `--config FILE` reads YAML, which arguments override
    wherever they stand. Boolean fields take `--name` and `--no_name`. Hyphens in names serve as underscores.

    Args:
        config_class: dataclass whose docstring has an `Args:` entry for each field; `--help` shows it.
        argv: words of the command line after the command.
        prog: name of the command in `--help`.
        examples: command lines that `--help` shows at its end.
        help: what the command does, for `--help`.
        positionals: fields that are given without their names; one of type `tuple[str, ...]` takes one value or more.

    Raises:
        WrongInput: an unknown key, a value of the wrong type, a missing file or a missing field.
        SystemExit: after `--help` or `--print_config`, with code 0.
    """
    parser = ArgumentParser(
        prog=prog,
        description=help,
        epilog=f"examples:\n{examples.strip(chr(10))}",
        exit_on_error=False,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="YAML file with any of the keys below; arguments override it")
    fields = config_class.__dataclass_fields__  # type: ignore[attr-defined]
    described = _field_help(config_class.__doc__ or "")
    for name in positionals:
        many = "tuple" in str(fields[name].type)
        parser.add_argument(name, type=str, nargs="+" if many else None, help=described.get(name))
    flags = [name for name, field in fields.items() if field.type in (bool, "bool")]
    parser.add_class_arguments(config_class, fail_untyped=True, skip={*positionals, *flags})
    for name in flags:
        parser.add_argument(
            f"--{name}",
            action=ActionYesNo(no_prefix="no_"),
            default=fields[name].default,
            help=described.get(name),
        )
    known = _known_keys(parser)
    argv = _with_underscores(argv, known)
    _refuse_unknown_yaml_keys(argv, known)
    try:
        namespace = parser.parse_args(_config_first(argv))
        values = dict(vars(parser.instantiate(namespace)))
    except (ArgumentError, ValueError, TypeError) as error:
        raise WrongInput(_one_line(str(error), known)) from error
    values = {name: value for name, value in values.items() if name in fields}
    return config_class(**{n: tuple(v) if isinstance(v, list) else v for n, v in values.items()})


def from_keys(config_class: type[Config], keys: Mapping[str, Any]) -> Config:
    """Builds an instance of a config class from values by key, checked and worded as if they were arguments.

    Args:
        config_class: dataclass, as for `parse`.
        keys: values by name, nested or by dotted names such as `sae.k`; those that are left out have their defaults.

    Raises:
        WrongInput: an unknown key, a value of the wrong type or a missing field.
    """
    argv: list[str] = []
    for name, value in flat_keys(dict(keys)).items():
        if name in _NO_KEYS:
            raise WrongInput(f"unknown key {_quoted(name)}")
        if isinstance(value, bool) and "." not in name:
            argv.append(f"--{name}" if value else f"--no_{name}")
        else:  # in one word, so that a negative number is no option
            argv.append(f"--{name}={value if isinstance(value, str) else json.dumps(value)}")
    return parse(config_class, argv, prog="distsae", examples="", help="")


def _config_first(argv: Sequence[str]) -> list[str]:
    """Moves `--config FILE` to the front, so that arguments override the file wherever they stand."""
    first: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--config":
            first += [word, *[following for following in [next(words, None)] if following is not None]]
        else:
            (first if word.startswith("--config=") else rest).append(word)
    return first + rest


def _with_underscores(argv: Sequence[str], known: Sequence[str]) -> list[str]:
    """Replaces hyphens in the names of known keys, so that `--keep-units` serves as `--keep_units`."""

    def respelled(word: str) -> str:
        name, equals, value = word.partition("=")
        key = name.removeprefix("--").replace("-", "_")
        return f"--{key}{equals}{value}" if key.removeprefix("no_") in known else word

    return [respelled(word) if word.startswith("--") else word for word in argv]


def _known_keys(parser: ArgumentParser) -> list[str]:
    keys = {action.dest for action in parser._actions}
    return sorted(keys.difference(_NO_KEYS))


def _field_help(docstring: str) -> dict[str, str]:
    """Returns the `name: text` entries of a google-style Args section; continuation lines are indented further."""
    found: dict[str, str] = {}
    name = ""
    for line in docstring.partition("Args:")[2].splitlines():
        entry = re.match(r"^ {8}(\w+): (.*)$", line)
        if entry:
            name = entry[1]
            found[name] = entry[2]
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found


def _refuse_unknown_yaml_keys(argv: Sequence[str], known: Sequence[str]) -> None:
    """Checks the keys of every `--config` file here, so that an error names the file and the nearest key."""
    for position, argument in enumerate(argv):
        path = argument.removeprefix("--config=") if argument.startswith("--config=") else None
        if argument == "--config" and position + 1 < len(argv):
            path = argv[position + 1]
        if path is None:
            continue
        if not Path(path).is_file():
            raise WrongInput(f"`config` (={path}) must be a YAML file that exists; give the path of one")
        content = read_yaml_mapping(Path(path), f"`config` (={path})", WrongInput)
        for key in _given_keys(content, known):
            if key not in known:
                raise WrongInput(f"unknown key {_quoted(key)} in {path}{nearest(key, known)}")


def _given_keys(content: dict[str, Any], known: Iterable[str], prefix: str = "") -> Iterable[str]:
    """Yields the dotted keys of a nested config down to the groups that exist: an unknown group is one key."""
    for name, value in content.items():
        key = f"{prefix}{name}"
        is_group = any(other.startswith(f"{key}.") for other in known)
        if isinstance(value, dict) and is_group:
            yield from _given_keys(value, known, f"{key}.")
        else:
            yield key


def _quoted(key: str) -> str:
    """Returns a key for an error: as it is, or written out if it has line breaks or is as long as no key."""
    return f"`{key}`" if key.isprintable() and len(key) < _LONGEST_KEY else shown(key)


def _one_line(message: str, known: Sequence[str]) -> str:
    """Returns a message of jsonargparse as one line in our form: the key, the value, what it must be."""
    unknown = re.search(r"[Uu]nrecognized arguments: (.*)", message)
    if unknown:
        key = next((word for word in unknown[1].split() if word.startswith("--")), unknown[1]).lstrip("-")
        key = key.split("=")[0]
        return f"unknown key {_quoted(key)}{nearest(key, known)}" if key else f"unexpected argument {unknown[1]}"
    option = re.search(r"Group '(.*)' does not accept option '(.*)'", message)
    if option:
        key = f"{option[1]}.{option[2]}"
        return f"unknown key {_quoted(key)}{nearest(key, known)}"
    wrong = re.search(r'Parser key "([^"]*)":\s*(.*)', message, re.DOTALL)
    if wrong:
        reason = " ".join(wrong[2].split()).replace("typing.", "")
        value = re.search(r"(?:Got|Given) value: (.*)$", reason)
        expected = re.findall(r"Expected an? (.*?)(?=\. Got| - Expected| Given value type)", reason)
        if value and expected:
            return f"`{wrong[1]}` (={value[1]}) must be {' or '.join(map(_kind, expected))}"
        return f"`{wrong[1]}`: {reason}"
    return " ".join(message.split())


def _kind(expected: str) -> str:
    """Returns in words what jsonargparse expected: `int`, `one of 'a', 'b'`, `null`."""
    name = re.sub(r"<class '(\w+)'>", r"\1", expected)
    choices = re.fullmatch(r"Literal\[(.*)\]", name)
    if choices:
        return f"one of {choices[1]}" if "," in choices[1] else choices[1].strip("'")
    return "null" if name == "NoneType" else name
