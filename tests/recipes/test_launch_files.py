"""Launch scripts, cluster configs and constraints, as far as they can be checked without a cluster."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "launch").glob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script):
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.parametrize("name", ["quickstart.sh", "test.sh", "slurm_train.sh", "slurm_produce.sh"])
def test_scripts_can_be_executed(name):
    assert (ROOT / "launch" / name).stat().st_mode & 0o111


@pytest.mark.parametrize("path", sorted((ROOT / "cluster_configs").glob("*.yaml")), ids=lambda path: path.name)
def test_cluster_configs_start_every_process(path):
    config = yaml.safe_load(path.read_text())
    assert config["distributed_type"] == "MULTI_GPU"
    assert config["rdzv_backend"] == "static"
    assert config["num_processes"] % config["num_machines"] == 0


def test_constraints_fix_every_dependency_to_one_version():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", line) for line in lines)
    fixed = {line.split("==")[0].lower() for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.match(r"[A-Za-z0-9_.-]+", line)[0].lower() for line in project["dependencies"]}
    assert needed <= fixed


def run_setup(tmp_path, script, **environment):
    """Runs a line of shell after sourcing setup_venv.sh, in the given environment."""
    line = f'set -euo pipefail; source "{ROOT}/launch/setup_venv.sh"; {script}'
    bash = shutil.which("bash")
    return subprocess.run(
        [bash, "-c", line, "try.sh"], capture_output=True, text=True, env={"HOME": str(tmp_path), **environment}
    )


def fake_python(folder, name, version, has_venv=True):
    """Writes a program that answers the questions of the scripts like Python of this version."""
    folder.mkdir(exist_ok=True)
    new = tuple(map(int, version.split("."))) >= (3, 11)
    program = folder / name
    program.write_text(
        "#!/bin/sh\n"
        'case "$2" in\n'
        f"*platform*) echo {version} ;;\n"
        f'*"< (3, 11)"*) exit {0 if new else 1} ;;\n'
        f'*"import venv, ensurepip"*) exit {0 if has_venv else 1} ;;\n'
        f"*version_info*) echo {'.'.join(version.split('.')[:2])} ;;\n"
        "esac\n"
    )
    program.chmod(0o755)


def path_with(folder):
    """Returns a PATH that holds `folder`, with the tools that the scripts use added to it, and no other Python."""
    for tool in ("basename", "dirname", "cat"):
        (folder / tool).symlink_to(shutil.which(tool))
    return str(folder)


def test_an_old_python_is_refused_in_one_line(tmp_path):
    fake_python(tmp_path / "bin", "python3", "3.9.2")
    done = run_setup(tmp_path, "setup_venv report", PATH=path_with(tmp_path / "bin"), DISTSAE_VENV=str(tmp_path / "v"))
    assert done.returncode == 1
    assert done.stderr.strip().count("\n") == 0
    assert "3.11 or newer is needed; found only 3.9.2" in done.stderr


def test_a_missing_python_is_refused_in_one_line(tmp_path):
    (tmp_path / "bin").mkdir()
    done = run_setup(tmp_path, "setup_venv report", PATH=path_with(tmp_path / "bin"), DISTSAE_VENV=str(tmp_path / "v"))
    assert done.returncode == 1
    assert done.stderr.strip().count("\n") == 0
    assert "apt install python3 python3-venv" in done.stderr


def test_a_python_without_ensurepip_names_the_debian_package(tmp_path):
    fake_python(tmp_path / "bin", "python3.12", "3.12.3", has_venv=False)
    done = run_setup(tmp_path, "setup_venv report", PATH=path_with(tmp_path / "bin"), DISTSAE_VENV=str(tmp_path / "v"))
    assert done.returncode == 1
    assert done.stderr.strip().count("\n") == 0
    assert "apt install python3.12-venv" in done.stderr


def test_a_new_enough_python_is_found_beside_an_old_one(tmp_path):
    fake_python(tmp_path / "bin", "python3", "3.9.2")
    fake_python(tmp_path / "bin", "python3.13", "3.13.0")
    done = run_setup(tmp_path, "find_python", PATH=path_with(tmp_path / "bin"))
    assert done.stdout.strip() == str(tmp_path / "bin" / "python3.13")


def test_an_unchanged_venv_is_not_rebuilt(tmp_path):
    (tmp_path / "v" / "bin").mkdir(parents=True)
    (tmp_path / "v" / "bin" / "python").symlink_to(sys.executable)
    script = (
        f'REPOSITORY="{ROOT}"; VENV_PYTHON="$DISTSAE_VENV/bin/python"; '
        'venv_stamp report > "$DISTSAE_VENV/distsae-report.stamp"; setup_venv report; echo "python: $VENV_PYTHON"'
    )
    done = run_setup(tmp_path, script, PATH="/usr/bin:/bin", DISTSAE_VENV=str(tmp_path / "v"))
    assert done.returncode == 0, done.stderr
    assert "is up to date" in done.stdout
    assert f"python: {tmp_path / 'v' / 'bin' / 'python'}" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "-m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder waiting passive"),
        (["-m", "heavy", "tests/store"], "-m pytest -m heavy tests/store waiting unset"),
    ],
    ids=["all of them", "some"],
)
def test_all_tests_are_run_two_files_at_a_time(words, expected, tmp_path):
    program = tmp_path / "v" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\n[ "$1" != -m ] || echo "$@" waiting "${OMP_WAIT_POLICY:-unset}"\n')
    program.chmod(0o755)
    (tmp_path / "v" / "distsae-test.stamp").write_text("")  # the stamp that this program makes
    known = {"PATH": os.environ["PATH"], "DISTSAE_VENV": str(tmp_path / "v")}
    done = subprocess.run(["bash", ROOT / "launch" / "test.sh", *words], capture_output=True, text=True, env=known)
    assert done.stdout.splitlines()[1:] == [expected], done.stderr
