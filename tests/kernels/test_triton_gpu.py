"""The Triton version in a process of its own, on a GPU if there is one and otherwise in Triton's interpreter."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch

try:
    VERSION = tuple(int(part) for part in version("triton").split(".")[:2])
except PackageNotFoundError:
    VERSION = (0, 0)
HERE = Path(__file__).parent


@pytest.mark.skipif(VERSION == (0, 0), reason="Triton is not installed")
@pytest.mark.skipif(
    (0, 0) < VERSION < (3, 7) and not torch.cuda.is_available(),
    reason="the interpreter of this Triton does not know NumPy 2.4",
)
def test_triton_computes_what_the_reference_computes():
    environment = os.environ | {"TRITON_INTERPRET": "0" if torch.cuda.is_available() else "1"}
    tests = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", HERE / "triton_properties.py"]
    done = subprocess.run(tests, env=environment, cwd=HERE.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
