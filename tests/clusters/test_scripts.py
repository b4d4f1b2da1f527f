"""The shell scripts, as far as they can be checked without a scheduler."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.end_to_end.launching import ROOT

SCRIPTS = sorted((ROOT / "launch").glob("*.sh"))
BATCH = [path for path in SCRIPTS if "#SBATCH" in path.read_text()]
OPTIONS = {
    "array": r"[0-9]+-[0-9]+(%[0-9]+)?",
    "cpus-per-task": r"[0-9]+",
    "gpus-per-node": r"([a-z0-9]+:)?[0-9]+",
    "gpus-per-task": r"([a-z0-9]+:)?[0-9]+",
    "job-name": r"\S+",
    "mem": r"[0-9]+[KMGT]?",
    "nodes": r"[0-9]+(-[0-9]+)?",
    "ntasks": r"[0-9]+",
    "ntasks-per-node": r"[0-9]+",
    "open-mode": r"append|truncate",
    "output": r"\S+",
    "requeue": None,
    "signal": r"(B:|R:|RB:)?[A-Z0-9]+(@[0-9]{1,5})?",
    "time": r"([0-9]+-)?[0-9]+(:[0-9]{2}){0,2}",
}
"""Options of sbatch that the scripts use, and what sbatch's manual lets them be."""


def test_bash_reads_them():
    for path in SCRIPTS:
        assert subprocess.run(["bash", "-n", str(path)], capture_output=True).returncode == 0, path


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck (package shellcheck)")
def test_shellcheck_finds_nothing():
    paths = [str(path) for path in [*SCRIPTS, ROOT / ".ci" / "run"]]
    done = subprocess.run(["shellcheck", "-x", "-S", "warning", *paths], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", BATCH, ids=lambda path: path.name)
def test_the_options_are_those_of_sbatch(path):
    """sbatch reads them until the first command; a word behind that it would pass over in silence."""
    head, _, rest = path.read_text().partition("\nset -euo pipefail\n")
    assert "#SBATCH" not in rest
    found = re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?(?: +#.*)?$", head, re.MULTILINE)
    assert len(found) == head.count("\n#SBATCH")
    assert len(dict(found)) == len(found)
    for name, value in found:
        pattern = OPTIONS[name]
        assert (value == "") if pattern is None else re.fullmatch(pattern, value), (name, value)


def test_a_training_has_less_time_to_stop_than_slurm_gives_it():
    text = (ROOT / "launch" / "slurm_train.sh").read_text()
    (given,) = re.findall(r"#SBATCH --signal=B:USR1@([0-9]+)", text)
    (grace,) = re.findall(r"GRACE:=([0-9]+)", text)
    assert int(grace) < int(given)
