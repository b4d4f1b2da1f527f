"""The notebooks of the documentation, and the blocks of its pages, are run as they are."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def _run(blocks, folder):
    script = folder / "blocks.py"
    script.write_text("\n\n".join(["import matplotlib", 'matplotlib.use("agg")', *blocks]))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]


def _code_cells(notebook):
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]


def test_there_are_two_and_the_page_names_them():
    assert [notebook.stem for notebook in NOTEBOOKS] == ["allocation_by_hand", "train_look_steer"]
    page = (ROOT / "docs" / "notebook.md").read_text()
    assert all(f"notebooks/{notebook.name}" in page for notebook in NOTEBOOKS)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_notebook_runs_from_top_to_bottom(notebook, tmp_path):
    _run(["".join(cell["source"]) for cell in _code_cells(notebook)], tmp_path)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_notebook_shows_what_it_gave(notebook):
    outputs = [output for cell in _code_cells(notebook) for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} >= {"stream", "execute_result"}
    assert not any(output["output_type"] == "error" for output in outputs)
    assert "/tmp/" not in notebook.read_text()


@pytest.mark.parametrize("page", ["docs/notebook.md", "CONTRIBUTING.md"])
def test_the_blocks_of_a_page_run_one_after_the_other(page, tmp_path):
    # A block behind a comment that says what it needs is not run: tests/test_documentation.py.
    blocks = re.findall(r"(?<!-->\n)^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    _run(blocks, tmp_path)
