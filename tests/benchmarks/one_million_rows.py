"""A million rows from one producer, from two and from three: the same rows in the same order, byte for byte.

Each store is made in a temporary folder by `distsae produce` started by hand so many times at once, compared with that
of one producer array by array, and removed. Seconds include starting Python and loading the model.

    python -m tests.benchmarks.one_million_rows --model MODEL --corpus CORPUS --hook blocks.2.resid_post
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from distsae.store import Store, verify_store
from tests.end_to_end.producers import Job, committed, read_unit

_COLUMNS = {"processes": 9, "rows": 10, "units": 5, "seconds": 7, "attempts": 8, "faults": 6}


def produced(job: Job, out: Path, processes: int) -> float:
    """Makes a store with several producers and returns the seconds that it took."""
    start = time.perf_counter()
    producers = [job.start(out) for _ in range(processes)]
    errors = [producer.communicate()[1] for producer in producers]
    if any(producer.returncode for producer in producers):
        raise SystemExit("\n".join(errors))
    return time.perf_counter() - start


def differing_rows(good: Path, other: Path) -> int:
    """Rows that differ in any byte of what is stored of them, at the same place of the same unit; -1: other units."""
    records = committed(good), committed(other)
    if [record.name for record in records[0]] != [record.name for record in records[1]]:
        return -1
    differing = 0
    for record, theirs in zip(*records, strict=True):
        arrays, others = read_unit(good, record), read_unit(other, theirs)
        if _kinds(arrays) != _kinds(others):
            return -1
        wrong = np.zeros(len(arrays["context_id"]), bool)
        if arrays.pop("context_token_ids").tobytes() != others["context_token_ids"].tobytes():
            return -1
        for name, array in arrays.items():
            as_bytes = (each.reshape(len(each), -1).view(np.uint8) for each in (array, others[name]))
            wrong |= np.not_equal(*as_bytes).any(axis=1)
        differing += int(wrong.sum())
    return differing


def _kinds(arrays: dict[str, np.ndarray]) -> dict[str, tuple[object, ...]]:
    return {name: (array.dtype, array.shape) for name, array in arrays.items()}


def main() -> None:
    """Parses the command line, produces, compares, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--hook", default="blocks.0.resid_post")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--unit_rows", type=int, default=50_000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    settings = {
        "hooks": f"[{options.hook}]",
        "context_length": 128,
        "max_rows": options.rows,
        "unit_rows": options.unit_rows,
        "chunk_rows": 8192,
    }
    job = Job(Path(options.model), Path(options.corpus), settings)
    names = (f"{name:>{width}}" for name, width in _COLUMNS.items())
    print(*names, " content_digest    every row, in order")
    with tempfile.TemporaryDirectory(prefix="distsae-") as folder:
        good = Path(folder) / "first"
        for number, processes in enumerate(options.processes):
            out = Path(folder) / f"store-{number}" if number else good
            seconds = produced(job, out, processes)
            store = Store.open(out)
            differing = differing_rows(good, out) if number else 0
            same = json.loads((out / "dataset.json").read_bytes()) == json.loads((good / "dataset.json").read_bytes())
            said = ("all equal, every byte" if same else "another seal") if not differing else f"{differing} differ"
            attempts = len(list((out / "data").glob("*/*")))
            print(
                f"{processes:9d} {store.rows + store.heldout_rows:10,d} {len(store.units):5d} {seconds:7.1f} "
                f"{attempts:8d} {len(verify_store(store)):6d}  {store.content_digest[:16]}  "
                f"{said if number else 'what the others are compared with'}",
                flush=True,
            )
            if number:
                shutil.rmtree(out)


if __name__ == "__main__":
    main()
