"""YAML from others: values as YAML 1.2 reads them, no key twice, no aliases that grow, and errors of one line.

PyYAML implements YAML 1.1, where `on` is true, `1e-3` is text, `0100` is 64 and `1:30` is 90. Here `on` is a word,
`1e-3` is a number, `0100` is 100 and `1:30` is text, as YAML 1.2 has it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from distsae.checked_files.plain_names import shown
from distsae.checked_files.regular_files import read_regular
from distsae.errors import DistsaeError, TornData

__all__ = ["parse_yaml", "read_yaml_mapping"]

_MOST_BYTES = 256 << 10
_MOST_VALUES = 100_000
_DEEPEST = 50


class _Yaml12Loader(yaml.SafeLoader):
    """Reads plain words, numbers and booleans as YAML 1.2 does, and refuses what grows."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _refuse_growth(node, {}, 0)
        return node


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    try:
        return int(text, 16 if "x" in text.lower() else 10)
    except ValueError as error:  # more digits than Python converts
        raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None


_Yaml12Loader.yaml_implicit_resolvers = {
    letter: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag.rsplit(":", 1)[1] not in ("bool", "int", "float", "timestamp")
    ]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Yaml12Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))
_Yaml12Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0x[0-9a-fA-F_]+|[0-9][0-9_]*)$"), list("-+0123456789")
)
_Yaml12Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.inf$|^\.nan$"),
    list("-+0123456789."),
)
_Yaml12Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def parse_yaml(text: str) -> Any:  # noqa: ANN401  (any YAML value)
    """Returns the value that YAML text describes.

    Raises:
        yaml.YAMLError: it is not YAML, gives a key twice, is nested too deeply, or grows through its aliases.
    """
    if len(text) > _MOST_BYTES:
        raise yaml.YAMLError(f"at most {_MOST_BYTES:,} characters are read; got {len(text):,}")
    try:
        return yaml.load(text, Loader=_Yaml12Loader)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except (ValueError, TypeError, AttributeError, LookupError) as error:  # from constructors of explicit tags
        raise yaml.YAMLError(f"a value does not fit its tag: {error}") from None


def read_yaml_mapping(file: Path, what: str, error: type[DistsaeError] = TornData) -> dict[str, Any]:
    """Returns the content of a YAML file that maps names to values.

    Args:
        file: file to read.
        what: the file as an error calls it.
        error: class of the error.

    Raises:
        FileNotFoundError: there is no such file.
        DistsaeError: it is not such a file; of class `error`.
    """
    encoded = read_regular(file, _MOST_BYTES, error=error)
    try:
        content = parse_yaml(encoded.decode())
    except UnicodeDecodeError as reason:
        raise error(f"{what} must be text in UTF-8; got {reason}; save it as UTF-8") from None
    except yaml.YAMLError as reason:
        raise error(f"{what} must be valid YAML; got: {' '.join(str(reason).split())}") from None
    if not isinstance(content, dict):
        raise error(f"{what} must map keys to values; got {shown(content)}")
    for key in _keys(content):
        if not isinstance(key, str):
            raise error(f"{what} must have keys that are text; got {shown(key)}")
    return content


def _keys(content: dict[Any, Any]) -> list[Any]:
    return [*content, *(key for value in content.values() if isinstance(value, dict) for key in _keys(value))]


def _refuse_growth(node: yaml.Node, sizes: dict[int, int], depth: int) -> int:
    """Returns the number of values of a node with its aliases written out.

    Args:
        node: node of the document.
        sizes: sizes of the nodes that are known; 0 for one that contains this one.
        depth: number of nodes that contain this one.
    """
    if id(node) in sizes:
        if not (size := sizes[id(node)]):
            raise yaml.composer.ComposerError(None, None, "an alias must not contain itself", node.start_mark)
        return size
    if depth > _DEEPEST:
        raise yaml.composer.ComposerError(None, None, f"at most {_DEEPEST} levels are read", node.start_mark)
    sizes[id(node)] = 0
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _refuse_repetition(node)
        inner = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        inner = list(node.value)
    size = 1 + sum(_refuse_growth(part, sizes, depth + 1) for part in inner)
    if size > _MOST_VALUES:
        raise yaml.composer.ComposerError(
            None, None, f"at most {_MOST_VALUES:,} values are read, with aliases written out", node.start_mark
        )
    sizes[id(node)] = size
    return size


def _refuse_repetition(node: yaml.MappingNode) -> None:
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                raise yaml.composer.ComposerError(
                    None, None, f"the key {shown(key.value)} is given twice; give it once", key.start_mark
                )
            seen.add((key.tag, key.value))
