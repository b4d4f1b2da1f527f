"""Which of torch's operations have a CUDA kernel, by the table that torch itself is generated from."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torchgen
from torchgen.gen import parse_native_yaml
from torchgen.model import DispatchKey

__all__ = ["without_cuda_kernel"]

_TABLES = Path(torchgen.__file__).parent / "packaged/ATen/native"
_COMPOSITE = (
    "has_composite_implicit_autograd_kernel",
    "has_composite_explicit_autograd_kernel",
    "has_composite_explicit_autograd_non_functional_kernel",
)


@cache
def _table() -> tuple[dict[str, Any], Any]:
    """Returns all operations by their full names, and the kernels of CUDA."""
    parsed = parse_native_yaml(str(_TABLES / "native_functions.yaml"), str(_TABLES / "tags.yaml"))
    by_name = {f"aten::{function.func.name}": function for function in parsed.native_functions}
    return by_name, parsed.backend_indices[DispatchKey.CUDA]


def without_cuda_kernel(operations: Iterable[str]) -> list[str]:
    """Returns those operations, such as `aten::add.Tensor`, that CUDA cannot run; collectives are left out."""
    by_name, on_cuda = _table()
    missing = []
    for name in sorted(operations):
        if name.startswith("c10d::"):
            continue
        function = by_name.get(name)
        if function is None:
            missing.append(name)
            continue
        base = function.structured_delegate
        delegated = base is not None and on_cuda.has_kernel(by_name[f"aten::{base}"])
        composite = any(getattr(function, kind) for kind in _COMPOSITE)
        if not (delegated or composite or on_cuda.has_kernel(function)):
            missing.append(name)
    return missing
