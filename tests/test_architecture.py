"""The house rules that a program can check: small files, names that say what is inside, a test for each, floors."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tests.import_graph import ImportGraph

ROOT = Path(__file__).parents[1]
MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "distsae").rglob("*.py"))
LINES = 300
BANNED = ("util", "common", "misc", "helper")
TESTED_ELSEWHERE = {
    "distsae/__main__.py": "tests/cli/test_main.py runs it as a process",
    "distsae/reporting/page.py": "the templates; tests/reporting/test_report.py parses what they render",
    "distsae/reporting/table.py": "two records, one comparison: tests/reporting/test_setup_table.py tries both answers",
    "distsae/training/engines/deepspeed_checks.py": "tests/distributed/test_deepspeed.py, with planted faults",
    "distsae/training/engines/deepspeed.py": "tests/distributed/test_deepspeed.py, on real processes",
}


def _test_of(module: Path) -> Path:
    return ROOT / "tests" / module.relative_to("distsae").with_name(f"test_{module.name}")


def _has_logic(module: Path) -> bool:
    """Whether there is more than imports, constants, protocols and dataclasses without methods."""
    if module.name == "__init__.py":
        return False
    for node in ast.parse((ROOT / module).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return True
        if isinstance(node, ast.ClassDef):
            bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
            if "Protocol" not in bases and any(isinstance(part, ast.FunctionDef) for part in node.body):
                return True
    return False


def test_files_are_short():
    files = [*MODULES, *(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))]
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in files}
    assert {path: length for path, length in lengths.items() if length > LINES} == {}


def _class_names(module: Path) -> list[str]:
    return [node.name for node in ast.walk(ast.parse((ROOT / module).read_text())) if isinstance(node, ast.ClassDef)]


def test_no_two_classes_share_a_name():
    """Private classes count too, so that a class is found by its name alone."""
    modules: dict[str, list[str]] = {}
    for module in MODULES:
        for name in _class_names(module):
            modules.setdefault(name, []).append(str(module))
    assert {name: found for name, found in modules.items() if len(found) > 1} == {}


def test_names_say_what_is_inside():
    parts = {part for module in MODULES for part in module.with_suffix("").parts}
    assert [
        part for part in parts if any(word in part.split("_") or f"{word}s" in part.split("_") for word in BANNED)
    ] == []


def test_every_module_with_logic_has_its_test():
    missing = [
        str(module)
        for module in MODULES
        if _has_logic(module) and str(module) not in TESTED_ELSEWHERE and not _test_of(module).is_file()
    ]
    assert missing == []


def test_exceptions_are_needed():
    for module in TESTED_ELSEWHERE:
        assert (ROOT / module).is_file(), f"{module} is gone"
        assert not _test_of(Path(module)).is_file(), f"{module} has a test of its own"


def test_public_modules_say_what_is_public():
    silent = []
    for module in MODULES:
        tree = ast.parse((ROOT / module).read_text())
        assigned = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        if "__all__" not in assigned and module.name != "__main__.py" and tree.body[1:]:
            silent.append(str(module))
    assert silent == []


@pytest.mark.parametrize("word", ["TODO", "FIXME", "NotImplementedError", "except Exception", "except:"])
def test_nothing_is_left_for_later(word):
    assert [str(module) for module in MODULES if word in (ROOT / module).read_text()] == []


def _layers() -> dict[str, int]:
    """The floor of each package, 0 at the bottom, as pyproject.toml tells import-linter."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if "containers" not in contract and "layers" in contract]
    names = [[name.strip() for name in layer.split("|")] for layer in reversed(layers)]
    return {name: floor for floor, together in enumerate(names) for name in together}


def test_a_floor_imports_only_floors_below_it():
    """Imports inside functions and for type checking count as well. CI proves it again with import-linter."""
    layers, wrong = _layers(), []
    for module in MODULES:
        name = ".".join(module.with_suffix("").parts[:2])
        if name not in layers:
            assert name in ("distsae.__init__", "distsae.__main__"), f"{name} has no floor"
            continue
        for node in ast.walk(ast.parse((ROOT / module).read_text())):
            imported = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            imported += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{module}: imports are absolute"
            for other in (".".join(target.split(".")[:2]) for target in imported):
                if other in layers and other != name and layers[other] >= layers[name]:
                    wrong.append(f"{module} imports {other}")
    assert wrong == []


def _parallel_assignments(tree: ast.AST) -> list[int]:
    """Lines that assign more than two values to as many names at once; swaps and unpacked results may stay."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Tuple)
        and isinstance(node.targets[0], ast.Tuple)
        and len(node.targets[0].elts) > 2
    ]


def test_names_get_their_values_one_by_one():
    assert _parallel_assignments(ast.parse("a, b, c = 1, 2, 3\na, b = b, a\na, b, c = f()")) == [1]
    found = {str(module): _parallel_assignments(ast.parse((ROOT / module).read_text())) for module in MODULES}
    assert {module: lines for module, lines in found.items() if lines} == {}


def test_errors_ask_in_the_imperative():
    asking = re.compile(r"[;,] do (?!not\b)[a-z]")
    assert [str(module) for module in MODULES if asking.search((ROOT / module).read_text())] == []


def test_nothing_imports_in_circles():
    """Imports inside functions and those that only type checkers see count as well."""
    assert ImportGraph.of(ROOT).cycles(typed=True) == []


def test_training_shows_its_rooms():
    training = ROOT / "distsae" / "training"
    assert len(list(training.glob("*.py"))) <= 17
    rooms = [path.name for path in training.iterdir() if (path / "__init__.py").is_file()]
    assert sorted(rooms) == ["engines", "folder", "freezing", "guards", "step"]
