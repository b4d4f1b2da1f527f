"""The Triton version in a process of its own, on a GPU if there is one and otherwise in Triton's interpreter."""

import json
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
installed = pytest.mark.skipif(VERSION == (0, 0), reason="Triton is not installed")


def _run(*arguments, **variables):
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env=os.environ | variables,
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@installed
@pytest.mark.skipif(
    VERSION < (3, 7) and not torch.cuda.is_available(), reason="this Triton's interpreter does not support NumPy 2.4"
)
def test_triton_computes_what_the_reference_computes():
    interpret = "0" if torch.cuda.is_available() else "1"
    found = _run("pytest", "-p", "no:cacheprovider", str(HERE / "triton_properties.py"), TRITON_INTERPRET=interpret)
    assert " passed" in found
    assert "skipped" not in found


REGISTERS = {
    "_count_ones": 24,
    "_dots": 60,
    "_list_ones": 128,
    "_scores": 56,
    "_segment_gradients": 84,
    "_segment_sums": 64,
    "_update_rows bf16": 88,
    "_update_rows fp32": 82,
    "_update_rows int8": 104,
    "_update_rows int8 in padded blocks": 128,
    "_upper_bits": 216,
    "_weighted_sums": 80,
}
"""Most registers of a thread: with 64 a multiprocessor of an sm_80 or sm_90 holds 32 warps, with 80 it holds 24, with
102 it holds 20, with 128 it holds 16. The product holds its part of the sums in registers."""


@installed
def test_triton_compiles_for_gpus_that_are_not_present(tmp_path):
    """Three kernels in two dtypes and three widths, and no more: no sum depends on where an operand lies in memory.

    Scores in places have one for each dtype and kind of bound at the last width. The update has one for each power of
    two that its rows fit in and each kind of moments, and for the segments of its matches one for each power of two.
    The product with a bit a score has one for each kind of bound, on NVIDIA's; listing the bits takes two.
    """
    found = json.loads(_run("tests.kernels.compile_triton", TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path)))
    assert {target: of_target["kernels"] for target, of_target in found.items()} == {
        **{"80": 37, "90": 37, "gfx942": 35},
    }
    for target in ("80", "90"):
        most = found[target]["most"]
        assert most.keys() == REGISTERS.keys()
        for name, (registers, stack) in most.items():
            assert registers <= REGISTERS[name], (target, name)
            assert stack == 0, f"{name} spills on sm_{target}"
