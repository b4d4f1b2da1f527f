"""What a release consists of, as far as it shows without a build; `launch/check_release.sh` builds and runs it."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

from distsae import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
TOP = {
    *("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"),
    *("constraints.txt", "pyproject.toml", "cluster_configs", "distsae", "docs", "launch", "tests"),
}
OF_EXTRAS = {"deepspeed": "deepspeed", "gguf": "gguf", "jinja2": "report", "matplotlib": "report", "peft": "peft"}
"""Packages that distsae imports only where an extra was installed."""

NOT_NEEDED = {
    "google": "protobuf, which wandb depends on",
    "markupsafe": "jinja2 depends on it",
    "triton": "comes with torch for CUDA; without it the plain kernels are used",
    "pydoc_data": "part of Python, though not in its list",
    "sae_lens": "read if it is there; peers of a study run in an environment of their own",
    "dictionary_learning": "as sae_lens",
    "sparsify": "as sae_lens",
    "schedulefree": "as sae_lens",
    "sae_bench": "hands an SAE over to it",
}


def _lowest(lines):
    found = (re.match(r"([\w-]+)(?:\[.*\])?>=([\d.]+)", line) for line in lines)
    return {match[1]: Version(match[2]) for match in found if match}


def _imported() -> set[str]:
    names = set()
    for path in (ROOT / "distsae").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"distsae"}


def test_the_top_of_the_repository_is_short():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("this is no clone")
    names = {line.partition("/")[0] for line in done.stdout.splitlines()}
    assert {name for name in names if not name.startswith(".")} == TOP


def test_every_package_that_is_imported_is_a_dependency():
    spelled = {"google_crc32c": "google-crc32c", "huggingface_hub": "huggingface-hub", "yaml": "pyyaml"}
    needed = {spelled.get(name, name) for name in _imported()} - set(NOT_NEEDED)
    assert needed - set(OF_EXTRAS) - set(_lowest(PROJECT["dependencies"])) == set()
    for name, extra in OF_EXTRAS.items():
        assert name in _lowest(EXTRAS[extra])


def test_the_lowest_versions_are_not_above_the_tested_ones():
    tested = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    lines = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
    for name, lowest in _lowest(lines).items():
        assert lowest <= Version(tested.get(name, "9999")), name


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "message", "authors"} <= citation.keys()
    assert citation["version"] == __version__ == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2411.02124"


def test_only_pythons_that_were_tried_are_named():
    assert PROJECT["requires-python"] == ">=3.11"
    prefix = "Programming Language :: Python :: 3."
    named = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if line.startswith(prefix)}
    page = (ROOT / "docs" / "limits.md").read_text()
    assert named == set(re.findall(r"^\| Python (3\.\d+)\b.*passed", page, re.MULTILINE))


@pytest.mark.heavy
def test_wheel_and_sdist_hold_what_they_must(tmp_path):
    """Builds them, which needs the package index for hatchling."""
    environment = {"PYTHON": sys.executable, "FOLDER": str(tmp_path)}
    script = ROOT / "launch" / "check_release.sh"
    done = subprocess.run(
        ["env", *(f"{name}={value}" for name, value in environment.items()), "bash", script, "--only_build"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "distsae-" in done.stdout
