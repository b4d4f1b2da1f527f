"""How fast shuffled batches are read, against a raw sequential read of the same files by one thread.

A pass over a few epochs begins with as much read ahead as there is memory for, and ends when that is so again: it reads
as much as it uses. All rounds are interleaved: in each, every way of reading goes once, and its rate is compared with
the raw one of its round. CPU time is that of all threads; on a machine that others use it says more than the rates. By
default the files are in the page cache, where reading is quickest and everything else shows; with `--cold` they are
dropped from it before each pass (asked of the kernel, file by file), and a pass is one epoch.

    python -m tests.benchmarks.reading                          # a synthetic store of 1.1 GB, in a temporary folder
    python -m tests.benchmarks.reading --store STORE --hook HOOK --cold
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

from distsae.batches import BatchReader, StreamOrder
from distsae.batches.rows import RowReader
from distsae.store import Store
from distsae.store.buffers import page_aligned
from tests.benchmarks.random_store import synthetic_store

_EPOCHS = 4


class Ways:
    """Ways to read all training rows of a hook once; each returns the rows that it read."""

    def __init__(self, store: Store, hook: str, batch_tokens: int, epochs: int) -> None:
        self.store = store
        self.hook = hook
        self.chunks = store.chunks()
        self.epochs = epochs
        assert isinstance(store.path, Path)  # a raw read needs files
        self.files = [
            store.path / "data" / store.units[chunk.unit].attempt / store.chunk_file(hook, chunk)
            for chunk in self.chunks
        ]
        self.order = StreamOrder([chunk.rows for chunk in self.chunks], batch_tokens, seed=0)
        self.rows = RowReader(store, hook, self.order, range(64))
        self.batches = BatchReader(store, hook, batch_tokens, 0, 0, 1)
        self._buffers = [page_aligned(store.buffer_bytes(hook)).data for _ in range(64)]
        self._epoch = {self.rows: 0, self.batches: 0}

    def raw(self) -> int:
        """`readinto` one page-aligned buffer of a chunk's size, which stays in the processor's cache."""
        return self._raw(self._buffers[:1])

    def raw_to_memory(self) -> int:
        """The same with as many buffers as there are streams: what is read goes to memory, where batches need it."""
        return self._raw(self._buffers)

    def _raw(self, buffers: list[memoryview]) -> int:
        for number, file in enumerate(self.files):
            with file.open("rb", buffering=0) as opened:
                opened.readinto(buffers[number % len(buffers)])
        return self.store.rows

    def read_chunk(self) -> int:
        """Chunk after chunk by `Store.read_chunk`: fresh memory, crc32c, one thread."""
        return sum(len(self.store.read_chunk(self.hook, chunk)) for chunk in self.chunks)

    def stored(self) -> int:
        """Batches as they are stored."""
        return self._pass(self.rows, self.rows.read)

    def normalised(self) -> int:
        """Batches in fp32, scaled: what training gets."""
        return self._pass(self.batches, self.batches.batch)

    def stored_and_checked(self) -> int:
        """The same as in the first pass over a store: every file is checked."""
        return self._first_passes(lambda: RowReader(self.store, self.hook, self.order, range(64)))

    def normalised_and_checked(self) -> int:
        """The same as in the first pass over a store: every file is checked."""
        return self._first_passes(lambda: BatchReader(self.store, self.hook, self.order.batch_tokens, 0, 0, 1))

    def _pass(self, reader: RowReader | BatchReader, read: Callable[[int], torch.Tensor]) -> int:
        rows = 0
        for _ in range(self.epochs):
            first = self._epoch[reader] * self.order.steps_per_epoch
            rows += sum(len(read(step)) for step in range(first, first + self.order.steps_per_epoch))
            self._epoch[reader] += 1
        reader.wait_until_ahead()
        return rows

    def _first_passes(self, begin: Callable[[], RowReader | BatchReader]) -> int:
        """Each epoch by a reader of its own, made, filled and closed within the time that is taken."""
        rows = 0
        for _ in range(self.epochs):
            reader = begin()
            read = reader.read if isinstance(reader, RowReader) else reader.batch
            rows += sum(len(read(step)) for step in range(self.order.steps_per_epoch))
            reader.close()
        return rows

    def drop_from_page_cache(self) -> None:
        """Asks the kernel to forget the files' pages."""
        for file in self.files:
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)

    def close(self) -> None:
        """Ends all threads."""
        self.rows.close()
        self.batches.close()


def measure(store: Store, hook: str, batch_tokens: int, rounds: int, cold: bool) -> None:
    """Prints the table."""
    epochs = 1 if cold else _EPOCHS
    ways = Ways(store, hook, batch_tokens, epochs)
    runs = {
        "raw: one buffer of a chunk, one thread": ways.raw,
        "raw: 64 such buffers in turn, one thread": ways.raw_to_memory,
        "`Store.read_chunk` in order, crc": ways.read_chunk,
        "batches as stored, no crc": ways.stored,
        "batches as stored, crc": ways.stored_and_checked,
        "batches fp32, scaled, no crc": ways.normalised,
        "batches fp32, scaled, crc": ways.normalised_and_checked,
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    busy: dict[str, list[float]] = {name: [] for name in runs}
    rows = {}
    for number in range(rounds + 1):  # the first round fills page cache and buffers, and does not count
        for name, run in runs.items():
            if cold:
                ways.drop_from_page_cache()
            begun, processor = time.perf_counter(), time.process_time()
            rows[name] = run()
            if number:
                seconds[name].append((time.perf_counter() - begun) / rows[name])
                busy[name].append((time.process_time() - processor) / rows[name])
    row_bytes = store.d_in(hook) * (4 if store.attributes.dtype == "fp32" else 2)
    state = "dropped from the page cache before each pass" if cold else "in the page cache"
    print(
        f"{store.rows:,} rows of {row_bytes:,} bytes ({store.rows * row_bytes / 1e6:,.0f} MB) in {len(ways.chunks)} "
        f"chunks, batches of {batch_tokens} rows; files {state}; {rounds} rounds of "
        f"{epochs} epochs, medians; load average "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; torch threads {torch.get_num_threads()}\n"
        f"memory of the reader: at most {ways.batches.memory_bytes(gpu=False) / 1e6:,.0f} MB\n"
    )
    print(
        "| way | rows/s | MB/s | share of raw, median (least, most of the rounds) | CPU s per GB |\n"
        "|---|---|---|---|---|"
    )
    raw = seconds[next(iter(runs))]
    for name, taken in seconds.items():
        shares = [own / other for own, other in zip(raw, taken, strict=True)]
        rate = 1 / statistics.median(taken)
        print(
            f"| {name} | {rate:,.0f} | {rate * row_bytes / 1e6:,.0f} | "
            f"{statistics.median(shares):.2f} ({min(shares):.2f}, {max(shares):.2f}) | "
            f"{statistics.median(busy[name]) / row_bytes * 1e9:.2f} |"
        )
    ways.close()


def main() -> None:
    """Measures one store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="a sealed store; without it one is made of random numbers")
    parser.add_argument("--hook", help="hook to read; the first one without it")
    parser.add_argument("--batch_tokens", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cold", action="store_true", help="drop the files from the page cache before each pass")
    parser.add_argument("--rows", type=int, default=2**21, help="of the synthetic store")
    parser.add_argument("--d_in", type=int, default=256, help="of the synthetic store")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(given.store) if given.store else synthetic_store(Path(folder), given.rows, given.d_in)
        hook = given.hook or store.attributes.hooks[0]
        measure(store, hook, given.batch_tokens, given.rounds, given.cold)


if __name__ == "__main__":
    main()
