"""One training step of distsae against public SAE trainers: time and peak memory, on the same data and sizes.

    python -m venv PEERS && PEERS/bin/pip install -r tests/benchmarks/peers/requirements.txt
    python -m tests.benchmarks.step_against_peers --peers_python PEERS/bin/python

Each contestant is paired with distsae's Mutual Choice: both have a process of their own and take turns, step by step,
so that a ratio comes from one interleaved run, whatever else the machine does meanwhile. All train in fp32 with Adam of
the same learning rate on fresh batches of one problem, without auxiliary loss unless the name says so; what a peer
cannot turn off stays on (the modules of `tests/benchmarks/peers` say what). Ratios are medians over rounds. Peak memory
is over what was resident before the trainer was built, measured over all steps, the first ones included. Linux only.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.benchmarks.peers.contestants import CONTESTANTS, OURS
from tests.benchmarks.peers.problem import Size, activations
from tests.benchmarks.peers.process import Failed, Worker

_MOST_WARMUP = 2
_LEFT_MIB = 1024
_HEAD = (
    "contestant",
    "version",
    "ms a step",
    "ratio",
    "ms of CPU",
    "ratio",
    "peak MiB",
    "ratio",
    "FVU, first and last step",
)
Step = dict[str, float]


def main() -> None:
    """Prints a table a width; a contestant that fails has a line that says so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers_python", help="interpreter of the environment that the peers are installed in")
    parser.add_argument("--widths", type=int, nargs="+", default=[32768, 131072])
    parser.add_argument("--rounds", type=int, default=3)
    others = [name for name in CONTESTANTS if name != OURS]
    parser.add_argument("--only", nargs="+", choices=others, default=others, metavar="CONTESTANT", help=str(others))
    parser.add_argument("--d_in", type=int, default=768)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        batches = Path(folder) / "batches.npy"
        np.save(batches, activations(given.rounds + _MOST_WARMUP, given.tokens, given.d_in, given.seed))
        for d_sae in given.widths:
            size = Size(given.d_in, d_sae, given.tokens, given.k, given.threads)
            _print_table(size, given.only, given.peers_python, batches, given.rounds)


def _print_table(size: Size, names: list[str], peers_python: str | None, batches: Path, rounds: int) -> None:
    print(
        f"\nd_sae {size.d_sae}, d_in {size.d_in}, {size.tokens} tokens, k {size.k}, {size.threads} threads, "
        f"{rounds} rounds; ratios to `{OURS}` in the same rounds\n"
    )
    print("| " + " | ".join(_HEAD) + " |")
    print("|---" * len(_HEAD) + "|", flush=True)
    all_ours: list[Step] = []
    ours_version, ours_first = "", math.nan
    for name in names:
        python = peers_python if CONTESTANTS[name].peer else sys.executable
        if python is None:
            print(f"| {name} | not measured: needs `--peers_python` |")
            continue
        try:
            with Worker(sys.executable, CONTESTANTS[OURS], size, batches, _spare_mib()) as ours:
                ours_first = _warm_up(ours)
                # Only now is it known what memory is left.
                with Worker(python, CONTESTANTS[name], size, batches, _spare_mib()) as other:
                    first = _warm_up(other)
                    pairs = [(ours.step(), other.step()) for _ in range(rounds)]
                    _print_row(name, other.version, pairs, first)
            all_ours += [pair[0] for pair in pairs]
            ours_version = ours.version
        except Failed as error:
            print(f"| {name} | failed: {str(error).replace('|', '/')} |", flush=True)
    if all_ours:
        _print_row(f"**{OURS}**, all rounds", ours_version, [(step, step) for step in all_ours], ours_first)


def _warm_up(worker: Worker) -> float:
    """Does the steps that are not timed; returns the FVU of the first."""
    first, *_ = [worker.step() for _ in range(worker.warmup)]
    return first["fvu"]


def _print_row(name: str, version: str, pairs: list[tuple[Step, Step]], first_fvu: float) -> None:
    cells = [name, version]
    for key, scale in (("seconds", 1000), ("cpu", 1000)):
        cells.append(f"{scale * statistics.median(other[key] for _, other in pairs):.0f}")
        cells.append(f"{statistics.median(other[key] / ours[key] for ours, other in pairs):.2f}")
    # The peak only grows: the last step knows that of all.
    peaks = [max(pair[side]["peak_mib"] for pair in pairs) for side in (0, 1)]
    cells += [f"{peaks[1]:.0f}", f"{peaks[1] / peaks[0]:.2f}"]
    cells.append("" if math.isnan(first_fvu) else f"{first_fvu:.4f} {pairs[-1][1]['fvu']:.4f}")
    print("| " + " | ".join(cells) + " |", flush=True)


def _spare_mib() -> int:
    """Returns the MiB that the next contestant may take."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) // 1024 - _LEFT_MIB


if __name__ == "__main__":
    main()
