"""The rates that bound a step on this machine: products, copies, reading."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from distsae.batches import BatchReader
from distsae.kernels import kernels_for
from distsae.recipes.check.config import CheckConfig
from distsae.recipes.check.finding import Finding
from distsae.recipes.check.stopwatch import seconds_of
from distsae.seeds import torch_generator
from distsae.store import Store

__all__ = ["HOOK", "Rates", "make_store", "rates_found", "reading_found"]

HOOK = "check"
_STORE_ROWS = 1 << 16
_BYTES = 2
"""Bytes of a number in the store."""
_BATCHES = 12
"""Batches that are read to measure the rate of reading."""


@dataclass(frozen=True)
class Rates:
    """What the device can do in a second.

    Args:
        product: operations of the bf16 product of the prefilter; a product of a `[a, b]` and a `[b, c]` matrix has
            `2 a b c`.
        exact: operations of an fp32 product.
        copy: bytes that a copy reads and writes.
    """

    product: float
    exact: float
    copy: float


def rates_found(config: CheckConfig, device: torch.device) -> tuple[Rates, list[Finding]]:
    """Measures the rates of the device."""
    features = 1 << (14 if device.type == "cuda" else 11)
    kernels = kernels_for("auto", device)
    rows, columns = (torch.ones(n, config.d_in, device=device) for n in (features, config.batch_tokens))
    low_rows, low_columns = rows.bfloat16(), columns.bfloat16()
    low, out = (
        torch.empty(features, config.batch_tokens, dtype=t, device=device) for t in (torch.bfloat16, torch.float32)
    )
    operations = 2.0 * features * config.batch_tokens * config.d_in
    product = operations / seconds_of(lambda: kernels.upper_scores(low_rows, low_columns, low), device)
    exact = operations / seconds_of(lambda: torch.mm(rows, columns.t(), out=out), device)
    source = torch.ones((1 << 30 if device.type == "cuda" else 1 << 28) // 4, device=device)
    target = torch.empty_like(source)
    copy = 2.0 * source.nbytes / seconds_of(lambda: target.copy_(source), device)
    findings = [
        _rate("bf16 product", product, 1e12, "TFLOP/s", "bf16_flop_per_s"),
        _rate("fp32 product", exact, 1e12, "TFLOP/s", "fp32_flop_per_s"),
        _rate("copy within memory", copy, 1e9, "GB/s read and written", "copy_bytes_per_s"),
    ]
    if device.type == "cuda":
        host = torch.empty(1 << 26, pin_memory=True)
        there = torch.empty(1 << 26, device=device)
        up = host.nbytes / seconds_of(lambda: there.copy_(host, non_blocking=True), device)
        findings.append(_rate("copy to the GPU, page-locked", up, 1e9, "GB/s", "to_gpu_bytes_per_s"))
    return Rates(product, exact, copy), findings


def make_store(config: CheckConfig, folder: Path) -> Store:
    """Writes a store of random activations: sums of a few of many directions, so that an SAE has something to find."""
    generator = torch_generator(0, "check", "store")
    directions = torch.randn(4 * config.d_in, config.d_in, generator=generator)
    chosen = torch.randint(len(directions), (_STORE_ROWS, 8), generator=generator)
    sizes = torch.rand(_STORE_ROWS, 8, generator=generator) + 0.5
    rows = torch.nn.functional.embedding_bag(chosen, directions, per_sample_weights=sizes, mode="sum")
    return Store.write(folder, rows.half(), hook=HOOK, unit_rows=_STORE_ROWS // 4, chunk_rows=2048)


def reading_found(config: CheckConfig, store: Store, folder: Path, device: torch.device) -> Finding:
    """Measures how fast batches are read from the store and prepared, from the disk and not from the system's cache.

    Args:
        config: settings of the check.
        store: the store.
        folder: its folder.
        device: device of the batches.
    """
    from_disk = _forget(folder)
    reader = BatchReader(store, HOOK, config.batch_tokens, 0, 0, 1, "token", device=device)
    try:
        begun = time.perf_counter()
        for step in range(_BATCHES):
            reader.batch(step)
        seconds = time.perf_counter() - begun
    finally:
        reader.close()
    rows = _BATCHES * config.batch_tokens / seconds
    size = _BYTES * config.d_in
    where = "from the disk" if from_disk else "from the system's cache, which could not be emptied"
    text = f"{rows:,.0f} rows/s, {rows * size / 1e9:.2f} GB/s, {where}"
    return Finding("reading", "ok", text, {"rows_per_s": rows, "read_bytes_per_s": rows * size})


def _forget(folder: Path) -> bool:
    """Drops the files of a folder from the system's cache, and returns whether the system offers this."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in folder.rglob("*"):
        if path.is_file():
            with contextlib.suppress(OSError), path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def _rate(name: str, rate: float, unit: float, unit_name: str, key: str) -> Finding:
    return Finding(name, "ok", f"{rate / unit:,.3g} {unit_name}", {key: rate})
