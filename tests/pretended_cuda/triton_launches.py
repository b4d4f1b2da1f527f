"""Triton kernels on the pretended device: a launch computes the kernel's plain statement.

The wrappers around the kernels run as they are: operands, shapes, dtypes and devices are those that a GPU would get.
The kernels themselves are tested in Triton's interpreter (`tests/kernels/triton_properties.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from distsae.kernels import CPU, KeptMoments, PrefilterRows
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


def _nothing(held: dict[str, Any]) -> None:
    """Segments are summed beforehand on a GPU alone: the plain statement of the next kernel sums whole rows."""


def _upper_bits(held: dict[str, Any]) -> None:
    upper = held["rows"].float() @ held["columns"].float().t()
    above = torch.zeros(held["features"], 32 * held["words"], dtype=torch.int64)
    above[:, : held["tokens"]] = (upper >= held["bounds"]) & (upper > 0)
    held["bits"].copy_((above.view(*held["bits"].shape, 32) << torch.arange(32)).sum(2).to(torch.int32))


def _ones(words: torch.Tensor) -> torch.Tensor:
    """The bits of words, int64 `[words, 32]`."""
    return words.view(-1)[:, None].long() >> torch.arange(32) & 1


def _count_ones(held: dict[str, Any]) -> None:
    padded = torch.zeros(held["counts"].numel() * held["WORDS"], dtype=torch.int64)
    padded[: held["number"]] = _ones(held["words"]).sum(1)
    held["counts"].copy_(padded.view(-1, held["WORDS"]).sum(1))


def _list_ones(held: dict[str, Any]) -> None:
    row = held["row"]
    mask = _ones(held["words"]).view(-1, 32 * held["words_a_row"])[:, :row]
    listed = mask.reshape(-1).nonzero().squeeze(1)[: held["places"]]
    held["flat"][: listed.numel()] = listed


def _kept(held: dict[str, Any], name: str) -> KeptMoments:
    """Returns the moments of a matrix as the update got them."""
    parts = {part: held[f"{name}_{part}"] for part in ("mean", "square", "mean_scale", "square_scale")}
    words = {part: held[f"{name}_{part}"] for part in ("row_words", "column_words")}
    match parts["mean"].dtype:
        case torch.float32:
            return KeptMoments(parts["mean"], parts["square"])
        case torch.int16:
            return KeptMoments(parts["mean"].view(torch.bfloat16), parts["square"].view(torch.bfloat16), **words)
        case _:
            return KeptMoments(**parts, **words)


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
    b_enc = KeptMoments(held["b_enc_mean"], held["b_enc_square"])
    for name, gradient, kept in (
        ("W_enc", encoder, _kept(held, "W_enc")),
        ("W_dec", decoder, _kept(held, "W_dec")),
        ("b_enc", held["b_gradient"], b_enc),
    ):
        (mean, square), numbers = kept.read(), held[name]
        gradient = gradient * held["scale"]
        mean.mul_(held["beta1"]).add_(gradient * held["rest1"])
        square.mul_(held["beta2"]).add_(gradient.square() * held["rest2"])
        rate = held["decoder_rate" if name == "W_dec" else "rate"]
        numbers.sub_(rate * mean / (square.sqrt() * held["root"] + held["eps"]))
        kept.write(mean, square)
    held["W_dec"].div_(held["W_dec"].norm(dim=1, keepdim=True))
    if held["LOW"]:
        low = PrefilterRows.of(OnCuda(held["low"]), held["width"])  # with the margins of a GPU
        low.refresh(0, OnCuda(held["W_enc"]), OnCuda(held["b_enc"]))


_MATCHED = ("starts", "token", "dots", "score", "more_starts", "more_token", "more_dots", "more_score")
_MATRICES = ("W_enc", "W_dec")
_CHANGED = tuple(f"{name}{part}" for name in (*_MATRICES, "b_enc") for part in ("", "_mean", "_square"))
_SCALES = tuple(f"{name}_{part}_scale" for name in _MATRICES for part in ("mean", "square"))
_WORDS = tuple(f"{name}_{part}_words" for name in _MATRICES for part in ("row", "column"))
_STATEMENTS: dict[str, tuple[Callable[[dict[str, Any]], None], tuple[str, ...], tuple[str, ...]]] = {
    "_dots": (_dots, ("feature", "token", "dots"), ()),
    "_upper_bits": (_upper_bits, ("rows", "columns", "bits"), ()),
    "_count_ones": (_count_ones, ("words", "counts"), ()),
    "_list_ones": (_list_ones, ("words", "ends", "flat"), ()),
    "_scores": (_scores, ("flat", "scores"), ()),
    "_segment_sums": (_nothing, ("index", "weight"), ()),
    "_weighted_sums": (_weighted_sums, ("starts", "index", "weight", "sums"), ()),
    "_segment_gradients": (_nothing, ("token", "dots", "score"), ()),
    "_update_rows": (_update_rows, (*_MATCHED, *_WORDS, "b_gradient", "low", "energy"), (*_CHANGED, *_SCALES)),
}
"""For each kernel: its plain statement; what it reads or writes, gathered rows aside; what it reads and writes.

Of segments, what all rows would take is counted if they were long, but for the sums, which are gathered.
"""


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
    LEDGER.launched(name, 1, _traffic(held, once, twice))


def _traffic(held: dict[str, Any], once: tuple[str, ...], twice: tuple[str, ...]) -> int:
    """Returns the bytes that a kernel moves; a tensor that stands for operands that it does not take counts once."""
    times: dict[int, int] = {}
    for number, names in ((1, once), (2, twice)):
        times |= {held[name].data_ptr(): number * held[name].nbytes for name in names}
    return sum(times.values())
