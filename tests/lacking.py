"""A file system without some operations, for programs that are started on a folder (`lacking_file_system.c`)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["lacking"]

_SOURCE = Path(__file__).with_suffix("").with_name("lacking_file_system.c")


def lacking(folder: Path, built: Path, **operations: int) -> dict[str, str]:
    """Returns the environment of a program that does not find some operations below a folder.

    Args:
        folder: the folder.
        built: folder for the compiled library, which is made once.
        operations: error number that each operation answers, by the names in `lacking_file_system.c`.
    """
    library = built / "lacking.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    if not library.exists():
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE), "-ldl"], check=True)
    listed = ",".join(f"{name}={number}" for name, number in operations.items())
    return {"LD_PRELOAD": str(library), "LACKING_BELOW": str(folder.resolve()), "LACKING": listed}
