"""Collects the English text in a Python installation: a corpus for a machine that has no other.

Python contains several megabytes of prose: the language reference behind `help("topics")` (`pydoc_data.topics`), the
docstrings and the longer comments of the standard library, and the docstrings of types and functions written in C. So
the demo needs neither a network nor a data set. The same interpreter always gives the same documents in the same order,
if they are collected in a process of their own: in another process, a library may have replaced a function of `sys`,
whose docstring is then missing.

The standard library is not imported for its docstrings; its source files are parsed. Only modules compiled into the
interpreter, which have no source files, are imported and inspected.

A document is one topic, one module (its docstring and those of its functions), one class (its docstring and those of
its methods), or the comments of one module. Of equal texts only the first is kept.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import inspect
import json
import sys
import sysconfig
import tokenize
import types
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from distsae.durable import replacing
from distsae.errors import WrongInput
from distsae.progress import say

__all__ = ["documents", "is_validation", "main", "write_jsonl"]

VALIDATION_ONE_IN = 16
"""One document in this many is left out of the training of the embedded model; a hash of its text selects it."""

MIN_CHARACTERS = 80
"""Length under which a document is left out, because it has a name and hardly a sentence."""

SKIPPED_FOLDERS = frozenset(
    {
        "__pycache__",
        "_bundled",
        "dist-packages",
        "idle_test",
        "idlelib",
        "lib-dynload",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "test",
        "tests",
        "turtledemo",
    }
)

C_FUNCTIONS = (types.BuiltinFunctionType, types.MethodDescriptorType, types.GetSetDescriptorType)

Entry = tuple[str, str]
"""A heading (`name(arguments)`, or empty for the docstring of a module or class itself) and the docstring."""


def documents(library: Path | None = None) -> Iterator[str]:
    """Yields the documents: topics first, then the standard library, then built-in modules.

    Args:
        library: folder of the standard library; by default that of this interpreter.

    Raises:
        WrongInput: Python was installed without the sources of its standard library, so there is hardly any text.
    """
    library = Path(sysconfig.get_path("stdlib")) if library is None else library
    characters = 0
    for document in _all_documents(library):
        characters += len(document)
        yield document
    if characters < 1_000_000:
        raise WrongInput(
            f"the embedded corpus needs a Python with the sources of its standard library; got {characters:,} "
            f"characters from {library}; use another Python, or `distsae produce` with text of your own"
        )


def is_validation(document: str) -> bool:
    """Returns whether the training of the embedded model leaves this document out; only its text decides."""
    return int.from_bytes(hashlib.sha256(document.encode()).digest()[:4], "big") % VALIDATION_ONE_IN == 0


def write_jsonl(path: str | Path) -> int:
    """Writes one `{"text": ...}` object a line, and replaces `path` only when all of them are written.

    Returns:
        The number of documents.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with (
        replacing(path, path.with_name(f"{path.name}.partial")) as partial,
        partial.open("w", encoding="utf-8", newline="\n") as file,
    ):
        for document in documents():
            file.write(json.dumps({"text": document}) + "\n")
            count += 1
    return count


def _all_documents(library: Path) -> Iterator[str]:
    seen: set[bytes] = set()
    for topic in _topics():
        if _is_new(topic, seen):
            yield topic
    for title, entries in _library_entries(library):
        yield from _render(title, entries, seen)
    for title, entries in _builtin_entries():
        yield from _render(title, entries, seen)


def _topics() -> Iterator[str]:
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    for name in sorted(topics):
        yield topics[name].strip()


def _is_new(text: str, seen: set[bytes]) -> bool:
    digest = hashlib.sha256(" ".join(text.split()).encode("utf-8", "replace")).digest()
    new = digest not in seen
    seen.add(digest)
    return new


def _render(title: str, entries: Iterable[Entry], seen: set[bytes]) -> Iterator[str]:
    """Joins the docstrings that were not seen before to one document under `title`; yields nothing if it is short."""
    parts = []
    for heading, docstring in entries:
        text = inspect.cleandoc(docstring).strip().encode("utf-8", "ignore").decode()  # drops lone surrogates
        if text and _is_new(text, seen):
            parts.append(f"{heading}\n{_indented(text)}" if heading else text)
    document = "\n\n".join([title, *parts])
    if parts and len(document) >= MIN_CHARACTERS:
        yield document


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def _library_entries(library: Path) -> Iterator[tuple[str, list[Entry]]]:
    for path in sorted(library.rglob("*.py"), key=lambda path: path.relative_to(library).parts):
        parts = path.relative_to(library).with_suffix("").parts
        if SKIPPED_FOLDERS.intersection(parts) or parts[0].startswith("config-"):
            continue
        name = ".".join(part for part in parts if part != "__init__")
        try:
            with tokenize.open(path) as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                source = file.read()
                tree = ast.parse(source)
        except (SyntaxError, ValueError, OSError):
            continue  # this interpreter cannot parse the file
        yield from _tree_entries(name, tree)
        yield f"Comments in module {name}:", [("", comment) for comment in _comments(source)]


def _tree_entries(name: str, tree: ast.Module) -> Iterator[tuple[str, list[Entry]]]:
    own = ast.get_docstring(tree, clean=False)
    yield f"Help on module {name}:", _own(own) + _function_entries(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            own = ast.get_docstring(node, clean=False)
            yield f"Help on class {node.name} in module {name}:", _own(own) + _function_entries(node.body)


def _own(docstring: str | None) -> list[Entry]:
    return [] if docstring is None else [("", docstring)]


def _function_entries(body: list[ast.stmt]) -> list[Entry]:
    entries = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            if docstring:
                arguments = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
                entries.append((f"{node.name}({', '.join(arguments)})", docstring))
    return entries


def _comments(source: str) -> Iterator[str]:
    """Yields the blocks of comments that are prose: several lines, mostly of letters and spaces."""
    block: list[str] = []
    for line in [*source.splitlines(), ""]:
        if line.lstrip().startswith("#"):
            block.append(line.lstrip().lstrip("#").strip())
            continue
        text = "\n".join(block).strip()
        letters = sum(character.isalpha() or character.isspace() for character in text)
        if len(text) >= MIN_CHARACTERS and "\n" in text and letters >= 0.85 * len(text):
            yield text
        block = []


def _builtin_entries() -> Iterator[tuple[str, list[Entry]]]:
    for name in sorted(sys.builtin_module_names):
        module = importlib.import_module(name)
        yield f"Help on built-in module {name}:", _inspected_entries(module)
        for key, value in sorted(vars(module).items()):
            if isinstance(value, type) and value.__module__ in {name, name.removeprefix("_")}:
                yield f"Help on class {key} in module {value.__module__}:", _inspected_entries(value)


def _inspected_entries(owner: types.ModuleType | type) -> list[Entry]:
    members = [(name, value) for name, value in sorted(vars(owner).items()) if isinstance(value, C_FUNCTIONS)]
    entries = [("", owner.__doc__)] + [(f"{name}()", value.__doc__) for name, value in members]
    return [(heading, text) for heading, text in entries if isinstance(text, str)]


def main(argv: list[str] | None = None) -> int:
    """Writes the corpus from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m distsae.recipes.embedded_corpus", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("out", help="JSON lines file to write")
    path = Path(parser.parse_args(argv).out)
    count = write_jsonl(path)
    say(f"wrote {count:,} documents, {path.stat().st_size:,} bytes, to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
