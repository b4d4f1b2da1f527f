"""Builds and loads `device_guard.cpp`, without which torch slices no tensor that says "cuda:0"."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch

__all__ = ["load_device_guard"]

_SOURCE = Path(__file__).with_name("device_guard.cpp")


@cache
def load_device_guard() -> None:
    """Registers the guard in this process, once; a test that calls it is skipped where there is no C++ compiler."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    package = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "device_guard.so"
        command = [compiler, "-shared", "-fPIC", "-std=c++20", f"-I{package / 'include'}", str(_SOURCE)]
        link = [f"-L{package / 'lib'}", "-lc10", "-o", str(library)]
        subprocess.run([*command, *link], check=True)
        ctypes.CDLL(str(library))
