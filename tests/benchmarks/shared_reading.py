"""Feature ranks that share their batches: each reads the files itself, or one reads and broadcasts.

Feature ranks of one data coordinate need the same batches. Here they are processes of one machine on gloo, and do
nothing but take batches; all rounds are interleaved, and the files are in the page cache. The read batch is broadcast
as training gets it, in fp32, and as it is stored, which is half as much and is converted by each rank.

    python -m tests.benchmarks.shared_reading                  # 2 and 4 ranks, a synthetic store of 268 MB
    python -m tests.benchmarks.shared_reading --d_in 768
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from distsae.batches import BatchReader
from distsae.batches.rows import RowReader
from distsae.parallel import Mesh
from distsae.store import Store
from tests.benchmarks.random_store import synthetic_store
from tests.distributed.processes import run_on_mesh

WAYS = ("every rank reads", "one reads, fp32 is broadcast", "one reads, rows as stored are broadcast")


def measure(mesh: Mesh, path: str, batch_tokens: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Takes all batches of an epoch in each way; returns seconds and processor seconds of this rank, by round."""
    store = Store.open(path)
    hook = store.attributes.hooks[0]
    reader = BatchReader(store, hook, batch_tokens, 0, 0, 1)
    steps, first = reader.order.steps_per_epoch, mesh.world.rank == 0
    rows = RowReader(store, hook, reader.order, range(64))
    batch = reader.batch(0).x.clone()
    stored = rows.read(0).clone()
    reader.wait_until_ahead()
    rows.wait_until_ahead()

    def fp32(step: int) -> Tensor:
        shared = reader.batch(step).x if first else batch
        dist.broadcast(shared, 0)
        return shared

    def as_stored(step: int) -> Tensor:
        shared = rows.read(step) if first else stored
        dist.broadcast(shared.view(torch.uint8), 0)  # gloo does not know all dtypes
        return reader.normalisation.apply(batch.copy_(shared))

    ways: dict[str, Callable[[int], Tensor]] = dict(
        zip(WAYS, (lambda step: reader.batch(step).x, fp32, as_stored), strict=True)
    )
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):  # the first round fills memory, and does not count
        for name, take in ways.items():
            dist.barrier()
            begun, processor = time.perf_counter(), time.process_time()
            for step in range(number * steps, (number + 1) * steps):
                take(step)
            reader.wait_until_ahead()  # a pass reads as much as it uses
            rows.wait_until_ahead()
            dist.barrier()
            if number:
                taken[name].append((time.perf_counter() - begun, time.process_time() - processor))
    reader.close()
    rows.close()
    return taken


def main() -> None:
    """Prints a table for two and for four ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_tokens", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=2**19, help="of the synthetic store")
    parser.add_argument("--d_in", type=int, default=256, help="of the synthetic store")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = synthetic_store(Path(folder), given.rows, given.d_in)
        gigabytes = store.rows * given.d_in * 2 / 1e9
        print(
            f"{store.rows:,} rows of {2 * given.d_in:,} bytes in batches of {given.batch_tokens}; {given.rounds} "
            f"rounds, medians; {os.cpu_count()} cores\n"
        )
        print("| ranks | way | rows/s | CPU s per GB of the store, all ranks | load average |\n|---|---|---|---|---|")
        for ranks in (2, 4):
            found = run_on_mesh(measure, (1, ranks), folder, given.batch_tokens, given.rounds, seconds=3600)
            load = os.getloadavg()[0]
            for name in WAYS:
                seconds = statistics.median(wall for wall, _ in found[0][name])
                busy = [sum(rank[name][number][1] for rank in found) for number in range(given.rounds)]
                print(
                    f"| {ranks} | {name} | {store.rows / seconds:,.0f} | "
                    f"{statistics.median(busy) / gigabytes:.2f} | {load:.1f} |"
                )


if __name__ == "__main__":
    main()
