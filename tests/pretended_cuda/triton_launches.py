"""Triton kernels on the pretended device: a launch computes the kernel's plain statement.

The wrappers around the kernels run as they are: operands, shapes, dtypes and devices are those that a GPU would get.
The kernels themselves are tested in Triton's interpreter (`tests/kernels/triton_properties.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from distsae.kernels import CPU, PrefilterRows
from distsae.model import project_out
from tests.pretended_cuda.ledger import LEDGER
from tests.pretended_cuda.tensors import OnCuda

__all__ = ["launch"]


def _dots(held: dict[str, Any]) -> None:
    held["dots"].copy_(CPU.match_dots(*(held[name] for name in ("feature", "token", "rows", "vectors"))))


def _weighted_sums(held: dict[str, Any]) -> None:
    held["sums"].copy_(CPU.row_sums(*(held[name] for name in ("starts", "index", "weight", "vectors"))))


def _scores(held: dict[str, Any]) -> None:
    flat, order = held["flat"].sort()  # the plain statement takes pairs sorted by feature
    pairs, tokens, biases = (held[name] for name in ("pairs", "tokens", "biases"))
    there = flat < pairs
    feature = flat.clamp(max=pairs - 1) // tokens
    token = flat.clamp(max=pairs - 1) - feature * tokens
    score = CPU.match_dots(feature, token, held["rows"], held["vectors"]) + biases[feature]
    bound = held["bounds"].view(-1)[feature if held["A_BOUND_EACH"] else 0]
    held["scores"][order] = torch.where(there & (score >= bound) & (score > 0), score, 0.0)


def _update_rows(held: dict[str, Any]) -> None:
    encoder = decoder = torch.zeros(())
    for prefix in ("", "more_")[: held["TERMS"]]:
        starts, token, dots, score, g = (held[prefix + name] for name in ("starts", "token", "dots", "score", "g"))
        encoder = encoder + CPU.row_sums(starts, token, dots, held["centred"])
        decoder = decoder + CPU.row_sums(starts, token, score, g)
    project_out(decoder, held["W_dec"])
    held["energy"].copy_(encoder.square().sum(1) + decoder.square().sum(1))
    if not held["UPDATES"]:
        return
    for name, gradient in (("W_enc", encoder), ("W_dec", decoder), ("b_enc", held["b_gradient"])):
        mean, square, numbers = held[f"{name}_mean"], held[f"{name}_square"], held[name]
        gradient = gradient * held["scale"]
        mean.mul_(held["beta1"]).add_(gradient * held["rest1"])
        square.mul_(held["beta2"]).add_(gradient.square() * held["rest2"])
        rate = held["decoder_rate" if name == "W_dec" else "rate"]
        numbers.sub_(rate * mean / (square.sqrt() * held["root"] + held["eps"]))
    held["W_dec"].div_(held["W_dec"].norm(dim=1, keepdim=True))
    if held["LOW"]:
        low = PrefilterRows.of(OnCuda(held["low"]), held["width"])  # with the margins of a GPU
        low.refresh(0, OnCuda(held["W_enc"]), OnCuda(held["b_enc"]))


_MATCHED = ("starts", "token", "dots", "score", "more_starts", "more_token", "more_dots", "more_score")
_CHANGED = tuple(f"{name}{part}" for name in ("W_enc", "W_dec", "b_enc") for part in ("", "_mean", "_square"))
_STATEMENTS: dict[str, tuple[Callable[[dict[str, Any]], None], tuple[str, ...], tuple[str, ...]]] = {
    "_dots": (_dots, ("feature", "token", "dots"), ()),
    "_scores": (_scores, ("flat", "scores"), ()),
    "_weighted_sums": (_weighted_sums, ("starts", "index", "weight", "sums"), ()),
    "_update_rows": (_update_rows, (*_MATCHED, "b_gradient", "low", "energy"), _CHANGED),
}
"""For each kernel: its plain statement; what it reads or writes, gathered rows aside; what it reads and writes."""


def launch(kernel: Any, *arguments: Any, grid: tuple[int, ...], warmup: bool, **options: Any) -> None:
    """Stands for `JITFunction.run`."""
    name = kernel.__name__
    operands = dict(zip(kernel.arg_names, arguments, strict=True))
    for operand, value in operands.items():
        if isinstance(value, torch.Tensor):
            assert isinstance(value, OnCuda), f"{name}: {operand} is on the CPU"
            assert value.is_contiguous(), f"{name}: {operand} is not contiguous"
    assert all(0 < size < 1 << 31 for size in grid), f"{name}: a grid of {grid}"
    statement, once, twice = _STATEMENTS[name]
    held = {operand: value.held if isinstance(value, OnCuda) else value for operand, value in operands.items()}
    with LEDGER.closed():
        statement(held)
    LEDGER.kernels.add(name)
    LEDGER.launched(name, 1, sum(held[operand].nbytes for operand in (*once, *twice, *twice)))
