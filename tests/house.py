"""Measures the house, and draws it: floors, rooms, and how many files each has.

    python -m tests.house                                    prints the figures of this checkout
    python -m tests.house --tree ../another_checkout         those of another one
    python -m tests.house --picture docs/figures/house.svg   draws this one

Floors and rooms are those that import-linter enforces (`pyproject.toml`).
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

from tests.import_graph import ImportGraph, duplicated_names, size_of_class

ROOT = Path(__file__).parents[1]
INK = "#1b1f24"
FAINT = "#8a9099"
WALL = "#0b6e99"
FILL = "#eef5f8"
FLOOR_NAMES = (
    "single files",
    "what others wrote; what is said",
    "the paper's mathematics; the store's format",
    "losses; operations of a step",
    "mesh; features; order of batches; corpora",
    "checkpoints; a transformers model at its hooks",
    "store to SAE; text to store; supervision",
    "measurements of a finished SAE; its doors",
    "the report; estimates before a run",
    "whole pipelines",
    "commands",
)


def floors(root: Path) -> list[list[str]]:
    """Returns the packages of each floor, the lowest first."""
    return _layers(root, containers=False)


def rooms(root: Path) -> list[list[str]]:
    """Returns the files and rooms of `training`, the lowest first."""
    return _layers(root, containers=True)


def _layers(root: Path, containers: bool) -> list[list[str]]:
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [c["layers"] for c in contracts if "layers" in c and ("containers" in c) == containers]
    return [[name.strip().removeprefix("distsae.") for name in layer.split("|")] for layer in reversed(layers)]


def files_in(path: Path) -> int:
    """Returns how many modules a package has, `__init__` files left out; 1 for a single file."""
    return sum(file.name != "__init__.py" for file in path.rglob("*.py")) if path.is_dir() else 1


def figures(root: Path) -> dict[str, object]:
    """Returns what the house is measured by."""
    graph = ImportGraph.of(root)
    training = root / "distsae" / "training"
    imports, attributes = size_of_class(training / "run.py", "Run")
    return {
        "modules": len(graph.modules),
        "files on the training landing": len(list(training.glob("*.py"))),
        "rooms of training": sum((path / "__init__.py").is_file() for path in training.iterdir()),
        "imports of run.py": imports,
        "attributes of Run": attributes,
        "import cycles at run time": len(graph.cycles()),
        "import cycles, type-only imports included": len(graph.cycles(typed=True)),
        "class names that are used twice": ", ".join(duplicated_names(root)) or 0,
    }


def draw(root: Path, path: Path) -> None:
    """Draws floors and rooms as an SVG."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "house"})
    figure, axis = plt.subplots(figsize=(12, 9.6))
    level = 0.0
    for number, (packages, name) in enumerate(zip(floors(root), FLOOR_NAMES, strict=True)):
        inside = rooms(root) if "training" in packages else []
        height = 1.0 if not inside else 0.55 + 0.62 * len(inside)
        axis.text(-0.12, level + height / 2, str(number), color=WALL, fontsize=15, ha="right", va="center")
        axis.text(12.15, level + height / 2, name, color=FAINT, fontsize=9, va="center")
        if number == 0:
            packages = ["  ".join(packages)]
        widths = [4.6 if package == "training" else 1.0 for package in packages]
        left, scale = 0.0, 12.0 / sum(widths)
        if "training" in packages:
            widths = [7.6 if package == "training" else 2.2 for package in packages]
            scale = 1.0
        for package, width in zip(packages, widths, strict=True):
            _box(axis, left, level, width * scale, height)
            count = f"  {files_in(root / 'distsae' / package)}" if number else ""
            top = level + height - 0.28 if package == "training" else level + height / 2
            axis.text(left + width * scale / 2, top, package + count, color=INK, fontsize=11, ha="center", va="center")
            if package == "training":
                _draw_rooms(axis, root, left, level, width * scale)
            left += width * scale
        level += height + 0.12
    axis.set(xlim=(-0.6, 15.4), ylim=(-0.1, level))
    axis.axis("off")
    figure.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Date": None})
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def _draw_rooms(axis: Any, root: Path, left: float, level: float, width: float) -> None:
    for row, names in enumerate(rooms(root)):
        share = (width - 0.3) / len(names)
        for column, name in enumerate(names):
            folder = root / "distsae" / "training" / name
            is_room = folder.is_dir()
            x, y = left + 0.15 + column * share, level + 0.12 + 0.62 * row
            _box(axis, x + 0.03, y, share - 0.06, 0.5, fill="white" if is_room else FILL, line=1.2 if is_room else 0.0)
            label = f"{name}/  {files_in(folder)}" if is_room else f"{name}.py"
            axis.text(x + share / 2, y + 0.25, label, color=INK, fontsize=9, ha="center", va="center")


def _box(axis: Any, x: float, y: float, width: float, height: float, fill: str = FILL, line: float = 1.2) -> None:
    import matplotlib.pyplot as plt

    box = plt.Rectangle((x, y), width, height, facecolor=fill, edgecolor=WALL if line else "none", linewidth=line)
    axis.add_patch(box)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, default=ROOT, help="checkout to measure")
    parser.add_argument("--picture", type=Path, help="SVG file to draw")
    given = parser.parse_args()
    for name, value in figures(given.tree).items():
        print(f"{name:<45} {value}")
    if given.picture is not None:
        draw(given.tree, given.picture)


if __name__ == "__main__":
    main()
