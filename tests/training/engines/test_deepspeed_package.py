"""Packages that stand for a deepspeed that does not work here; the real one trains in tests/distributed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_OWN = "class NoCuda(Exception): pass\nNoCuda.__module__ = 'deepspeed.ops.op_builder.builder'\n"
_PROGRAM = """
import os, sys, torch
from distsae.errors import WrongInput
torch.cuda.is_available = lambda: True  # a machine with a GPU, on which a CPU trains
from distsae.training.engines.deepspeed_package import working_deepspeed
try:
    with working_deepspeed(torch.device(sys.argv[1])) as deepspeed:
        print(os.environ.get("DS_ACCELERATOR"))
        deepspeed.initialize()
except WrongInput as error:
    print(error)
except Exception as error:
    print("passed on:", type(error).__name__, error)
"""


@pytest.fixture
def said(tmp_path):
    """Returns what the program says with a package deepspeed of some code; with None, without one."""

    def run(package: str | None, initialize: str = "pass", device: str = "cpu") -> list[str]:
        hidden = "import sys\nsys.modules['deepspeed'] = None\n" if package is None else ""
        if package is not None:
            (tmp_path / "deepspeed" / "ops").mkdir(parents=True)
            (tmp_path / "deepspeed" / "ops" / "__init__.py").write_text("__compatible_ops__ = {}\n")
            (tmp_path / "deepspeed" / "__init__.py").write_text(f"{package}\ndef initialize():\n    {initialize}\n")
        environment = {name: value for name, value in os.environ.items() if name != "DS_ACCELERATOR"}
        environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-c", hidden + _PROGRAM, device], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def test_a_shard_on_the_cpu_of_a_machine_with_a_gpu(said):
    assert said("") == ["cpu"]


def test_a_shard_on_a_gpu(said):
    assert said("", device="cuda") == ["None"]


def test_no_package(said):
    (line,) = said(None)
    assert line.startswith("`engine` (=deepspeed) must have the package deepspeed; got none; run `pip install")


@pytest.mark.parametrize(
    ("package", "reason"),
    [
        (
            _OWN + "raise NoCuda('CUDA_HOME does not exist')",
            "NoCuda: CUDA_HOME does not exist",
        ),
        ("raise OSError('CUDA_HOME environment variable is not set')", "OSError: CUDA_HOME environment variable"),
        ("raise RuntimeError('an operator is registered twice\\nmore')", "ImportError: RuntimeError: an operator is"),
        ("import hjson_that_is_missing", "ModuleNotFoundError: No module named 'hjson_that_is_missing'"),
        ("from torch import no_such_name", "ImportError: cannot import name 'no_such_name'"),
    ],
)
def test_a_package_that_cannot_be_imported(said, package, reason):
    (line,) = said(package)
    assert line.startswith(
        f"`engine` (=deepspeed) must have a package deepspeed that works on this machine; got {reason}"
    )
    assert line.endswith("; install what is missing, or use `engine` plain")


def test_a_package_that_cannot_be_started(said):
    start = "import subprocess; subprocess.check_call(['false'])"
    accelerator, line = said("", start)
    assert accelerator == "cpu"
    assert "got CalledProcessError: Command '['false']' returned non-zero exit status 1" in line


@pytest.mark.parametrize("error", ["RuntimeError('a lost rank')", "__import__('torch').OutOfMemoryError('a full GPU')"])
def test_what_is_not_a_fault_of_the_package_is_passed_on(said, error):
    assert said("", f"raise {error}")[1].startswith("passed on: ")
