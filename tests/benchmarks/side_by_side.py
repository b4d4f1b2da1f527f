"""SAEs trained side by side over one read of the store, against one run after the other; in turns, a process each.

A pass counts what `train` takes, not the start of Python: seconds, processor seconds of all threads, and the peak of
resident memory (that of the largest run where there are several).

    python -m tests.benchmarks.side_by_side                  # 3 members, a synthetic store of 268 MB
    python -m tests.benchmarks.side_by_side --d_sae 8192
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

from distsae.training import CheckpointConfig, SizeConfig, SweepConfig, TrainConfig, train
from distsae.training.sweep import members
from tests.benchmarks.random_store import synthetic_store


def _measure(config: TrainConfig) -> tuple[float, float, float]:
    """Returns seconds, processor seconds and MB of a `train` in this process."""
    begun, processor = time.perf_counter(), time.process_time()
    train(config)
    spent = time.perf_counter() - begun, time.process_time() - processor
    status = Path("/proc/self/status").read_text()  # `ru_maxrss` would count the parent's peak
    return *spent, int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def _of_a_process(config: TrainConfig) -> tuple[float, float, float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (config,))


def main() -> None:
    """Prints a line for each way: the median of its rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2**18, help="of the synthetic store")
    parser.add_argument("--d_in", type=int, default=512)
    parser.add_argument("--d_sae", type=int, default=2048)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = synthetic_store(Path(folder) / "store", given.rows, given.d_in)
        base = TrainConfig(
            store=str(store.path),
            out="",
            hook=store.attributes.hooks[0],
            steps=given.steps,
            sae=SizeConfig(d_sae=given.d_sae, k=given.k),
            sweep=SweepConfig(seed=tuple(range(given.members))),
            checkpoint=CheckpointConfig(every=10**6),
            wandb="off",
        )
        ways: dict[str, list[tuple[float, float, float]]] = {"side by side": [], "one after the other": []}
        for number in range(given.rounds):
            config = dataclasses.replace(base, out=f"{folder}/sweep-{number}")
            ways["side by side"].append(_of_a_process(config))
            alone = dataclasses.replace(config, out=f"{folder}/alone-{number}")
            parts = [_of_a_process(member) for member in members(alone).values()]
            seconds, processor, peaks = zip(*parts, strict=True)
            ways["one after the other"].append((sum(seconds), sum(processor), max(peaks)))
        for name, rounds in ways.items():
            seconds, processor, peak = (statistics.median(values) for values in zip(*rounds, strict=True))
            print(f"{name:<20} {seconds:6.1f} s  {processor:6.1f} processor s  {peak:6.0f} MB")


if __name__ == "__main__":
    main()
