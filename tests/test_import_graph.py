"""The import graph finds what it is asked for in a small package with every kind of import."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.import_graph import ImportGraph, duplicated_names, size_of_class


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "__init__": "from distsae.a import A\n__all__ = ['A']\n",
        "a": "from distsae.b import B\nclass A:\n    def __init__(self):\n        self.x = self.y = 1\n",
        "b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from distsae.c import C\nclass B: ...\n",
        "c": "import os\ndef late():\n    from distsae import A\nclass C: ...\nclass _Inner: ...\n",
        "d": "from distsae import e\nclass _Inner: ...\n",
        "e": "def late():\n    import distsae.d\n",
    }
    (tmp_path / "distsae").mkdir()
    for name, text in files.items():
        (tmp_path / "distsae" / f"{name}.py").write_text(text)
    return tmp_path


def test_cycles_with_and_without_what_type_checkers_see(root):
    graph = ImportGraph.of(root)
    assert graph.cycles() == [{"distsae.d", "distsae.e"}]
    assert graph.cycles(typed=True) == [{"distsae.a", "distsae.b", "distsae.c"}, {"distsae.d", "distsae.e"}]


def test_an_import_from_a_package_leads_to_the_module_that_has_the_name(root):
    assert ImportGraph.of(root).runtime["distsae.c"] == {"distsae", "distsae.a"}


def test_names_and_sizes(root):
    assert duplicated_names(root) == {"_Inner": ["distsae/c.py", "distsae/d.py"]}
    assert size_of_class(root / "distsae" / "a.py", "A") == (1, 2)
