"""Which module of the package imports which, read from the source: for the house rules and the picture of the house."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ImportGraph", "duplicated_names", "size_of_class"]

PACKAGE = "distsae"


@dataclass(frozen=True)
class ImportGraph:
    """Imports between modules.

    Args:
        modules: file of each module, by dotted name; a package is its `__init__`.
        runtime: modules that each module imports when it is loaded or when one of its functions runs.
        typed: modules that it imports for type checkers alone.
    """

    modules: Mapping[str, Path]
    runtime: Mapping[str, frozenset[str]]
    typed: Mapping[str, frozenset[str]]

    @staticmethod
    def of(root: Path) -> ImportGraph:
        """Reads all modules of the checkout at `root`."""
        modules = {_name(path.relative_to(root)): path for path in sorted((root / PACKAGE).rglob("*.py"))}
        runtime: dict[str, frozenset[str]] = {}
        typed: dict[str, frozenset[str]] = {}
        for name, path in modules.items():
            tree = ast.parse(path.read_text())
            guarded = {id(node) for block in _type_checking_blocks(tree) for node in ast.walk(block)}
            found = [(node, set(_imported(node, modules)) - {name}) for node in ast.walk(tree)]
            runtime[name] = frozenset().union(*(names for node, names in found if id(node) not in guarded))
            typed[name] = frozenset().union(*(names for node, names in found if id(node) in guarded))
        return ImportGraph(modules, runtime, typed)

    def cycles(self, *, typed: bool = False) -> list[frozenset[str]]:
        """Returns the sets of modules that import each other, directly or not.

        A package's `__init__` collects names for others and counts as no module of its own: an import of a name from a
        package is an import of whatever that `__init__` imports.

        Args:
            typed: include imports that only type checkers see.
        """
        edges = {
            name: {
                target
                for other in (self.runtime[name] | (self.typed[name] if typed else frozenset()))
                for target in self._behind(other)
            }
            - {name}
            for name in self.modules
            if not self._is_package(name)
        }
        return _strongly_connected(edges)

    def _is_package(self, name: str) -> bool:
        return self.modules[name].name == "__init__.py"

    def _behind(self, name: str) -> frozenset[str]:
        """Returns a module itself; of a package nothing: who imports a name from it imports the module that has it."""
        return frozenset() if self._is_package(name) else frozenset({name})


def duplicated_names(root: Path) -> dict[str, list[str]]:
    """Returns the class names that several modules define, with the modules."""
    found: dict[str, list[str]] = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(str(path.relative_to(root)))
    return {name: files for name, files in found.items() if len(files) > 1}


def size_of_class(path: Path, name: str) -> tuple[int, int]:
    """Returns how many import statements a file has, and how many attributes its class `name` assigns to `self`."""
    tree = ast.parse(path.read_text())
    imports = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", "") != "__future__"
    ]
    (owner,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    assigned = [node for node in ast.walk(owner) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    attributes = {node.attr for node in assigned if isinstance(node.value, ast.Name) and node.value.id == "self"}
    return len(imports), len(attributes)


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _type_checking_blocks(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield from node.body


def _imported(node: ast.AST, modules: Mapping[str, Path]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in modules)
    elif isinstance(node, ast.ImportFrom) and node.module in modules:
        names = {alias.name for alias in node.names}
        yield from (f"{node.module}.{name}" for name in names if f"{node.module}.{name}" in modules)
        if not {f"{node.module}.{name}" for name in names} <= modules.keys():
            yield node.module
            yield from _homes(node.module, names, modules)


def _homes(package: str, names: set[str], modules: Mapping[str, Path]) -> Iterator[str]:
    """Follows names that a package's `__init__` imports from elsewhere to the modules that define them."""
    path = modules[package]
    if path.name != "__init__.py":
        return
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module in modules:
            taken = names & {alias.asname or alias.name for alias in node.names}
            if taken:
                yield node.module
                yield from _homes(node.module, taken, modules)


def _strongly_connected(edges: Mapping[str, set[str]]) -> list[frozenset[str]]:
    """Returns the strongly connected components of more than one module (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[frozenset[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(edges.get(name, ())):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            component = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(component) > 1:
                found.append(frozenset(component))

    for name in sorted(edges):
        if name not in index:
            visit(name)
    return found
