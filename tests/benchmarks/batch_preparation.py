"""What it takes to prepare a batch: seconds of one CPU thread, and what a GPU does instead.

    python -m tests.benchmarks.batch_preparation

The CPU's time is measured; the GPU's work is counted on the pretended one: bytes that are copied to it, kernels, bytes
that they read and write, and waits. Rows are random, in fp16, normalised with `token`, with a limit of their norm.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from distsae.batches import Normalisation, left_out_rows
from distsae.batches.upload import Upload
from distsae.store import Store
from tests.pretended_cuda import CUDA, LEDGER, pretended_cuda

_LIMIT = 1e3
_ROUNDS = 5


def cpu_seconds(stored: torch.Tensor, store: Store, normalisation: Normalisation) -> float:
    """Returns the least CPU time of one thread for widening, the limit and the normalisation of a batch."""
    torch.set_num_threads(1)
    memory = torch.empty(stored.shape)
    found = []
    for _ in range(_ROUNDS):
        begun = time.thread_time()
        raw = memory.copy_(stored)
        left_out_rows(raw, store, _LIMIT)
        normalisation.apply(raw)
        found.append(time.thread_time() - begun)
    return min(found)


def gpu_work(stored: torch.Tensor, store: Store, normalisation: Normalisation) -> dict[str, int]:
    """Returns what a GPU does for a batch, by name."""
    with pretended_cuda():
        upload = Upload(CUDA, normalisation, store, _LIMIT)
        LEDGER.clear()
        upload.batch(stored)
        launches, waits, traffic = LEDGER.totals()
        return {"MB copied": LEDGER.copied.total(), "launches": launches, "MB moved": traffic, "waits aside": waits}


def main() -> None:
    """Prints a line for each width."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--d_in", type=int, nargs="+", default=[768, 2304, 4096])
    given = parser.parse_args()
    normalisation = Normalisation(1.0, None, token=True)
    with tempfile.TemporaryDirectory() as folder:
        store = Store.write(Path(folder) / "store", torch.randn(256, 8).half(), hook="h")
        for d_in in given.d_in:
            stored = torch.randn(given.tokens, d_in, generator=torch.Generator().manual_seed(0)).half()
            seconds = cpu_seconds(stored, store, normalisation)
            work = gpu_work(stored, store, normalisation)
            shown = ", ".join(
                f"{name} {value / 1e6:,.1f}" if name.startswith("MB") else f"{name} {value}"
                for name, value in work.items()
            )
            print(f"d_in {d_in}, {given.tokens} tokens: CPU {1e3 * seconds:.1f} ms; GPU: {shown}")


if __name__ == "__main__":
    main()
