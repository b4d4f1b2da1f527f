"""Triton kernels on the pretended device: a launch computes the kernel's plain statement.

The wrappers around the kernels run as they are: operands, shapes, dtypes and devices are those that a GPU would get.
The kernels themselves are tested in Triton's interpreter (`tests/kernels/triton_properties.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from distsae.kernels import CPU
from tests.pretended_cuda.ledger import LEDGER
from tests.pretended_cuda.tensors import OnCuda

__all__ = ["launch"]


def _dots(operands: dict[str, Any]) -> Tensor:
    return CPU.match_dots(*(operands[name] for name in ("feature", "token", "rows", "vectors")))


def _weighted_sums(operands: dict[str, Any]) -> Tensor:
    return CPU.row_sums(*(operands[name] for name in ("starts", "index", "weight", "vectors")))


_STATEMENTS: dict[str, tuple[Callable[[dict[str, Any]], Tensor], str, tuple[str, ...]]] = {
    "_dots": (_dots, "dots", ("feature", "token")),
    "_weighted_sums": (_weighted_sums, "sums", ("starts", "index", "weight")),
}
"""For each kernel: what it computes, where it writes that, and what it reads beside gathered rows."""


def launch(kernel: Any, *arguments: Any, grid: tuple[int, ...], warmup: bool, **options: Any) -> None:
    """Stands for `JITFunction.run`."""
    name = kernel.__name__
    operands = dict(zip(kernel.arg_names, arguments, strict=True))
    for operand, value in operands.items():
        if isinstance(value, Tensor):
            assert isinstance(value, OnCuda), f"{name}: {operand} is on the CPU"
            assert value.is_contiguous(), f"{name}: {operand} is not contiguous"
    assert all(0 < size < 1 << 31 for size in grid), f"{name}: a grid of {grid}"
    statement, written, read = _STATEMENTS[name]
    held = {operand: value.held if isinstance(value, OnCuda) else value for operand, value in operands.items()}
    held[written].copy_(statement(held))
    LEDGER.kernels.add(name)
    LEDGER.launched(name, 1, sum(held[operand].nbytes for operand in (written, *read)))
