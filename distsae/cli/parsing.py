"""Turns the command line and YAML files into typed configs; every command parses with `parse`.

jsonargparse does the work. Added here: values as `key_values.py` reads them, also those of files, and errors of one
line that name the nearest known key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import yaml
from jsonargparse import ActionYesNo, ArgumentError, ArgumentParser, DefaultHelpFormatter, set_loader

from distsae.checked_files import parse_yaml
from distsae.cli.key_values import as_word, key_types, value_of
from distsae.cli.typed_words import TypedWords, nearest_key, quoted_key
from distsae.errors import WrongInput
from distsae.nested_keys import flat_keys

__all__ = ["from_keys", "parse"]

Config = TypeVar("Config")

_NO_KEYS = ("config", "help", "print_config")
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
    wherever they stand. Boolean fields take `--name` and `--no_name`, or `--name false`. Hyphens in names serve as
    underscores.

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
    keys = TypedWords(key_types(config_class), frozenset(flags), tuple(positionals), known)
    argv = keys.typed(_with_underscores(argv, known))
    try:
        namespace = parser.parse_args(argv)
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
    kinds = key_types(config_class)
    for name, value in flat_keys(dict(keys)).items():
        if name in _NO_KEYS:
            raise WrongInput(f"unknown key {quoted_key(name)}")
        argv.append(f"--{name}={as_word(value_of(name, value, kinds[name]) if name in kinds else value)}")
    return parse(config_class, argv, prog="distsae", examples="", help="")


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


def _one_line(message: str, known: Sequence[str]) -> str:
    """Returns a message of jsonargparse as one line in our form: the key, the value, what it must be."""
    unknown = re.search(r"[Uu]nrecognized arguments: (.*)", message)
    if unknown:
        option = next((word for word in unknown[1].split() if word.startswith("-")), "")
        key = option.lstrip("-").split("=")[0]
        if key:
            return f"unknown key {quoted_key(key)}{nearest_key(key, known)}"
        return f"unexpected argument `{unknown[1]}`; give it after its key; a list is one word, such as '[a, b]'"
    option = re.search(r"Group '(.*)' does not accept option '(.*)'", message)
    if option:
        key = f"{option[1]}.{option[2]}"
        return f"unknown key {quoted_key(key)}{nearest_key(key, known)}"
    if missing := re.search(r"the following arguments are required: (.*)", message):
        return f"`{missing[1]}` must be given; got none; `--help` shows examples"
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
