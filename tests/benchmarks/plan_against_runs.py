"""What `distsae plan` says of runs on one to four processes of this machine, and what they take.

    python -m tests.benchmarks.plan_against_runs                # both tables
    python -m tests.benchmarks.plan_against_runs --only time

*Time*: steps of one process at two widths, and a sum of two processes, are measured and written to a file as
`distsae check --json` writes it; `distsae plan --check` plans other widths and meshes from it, which then are measured.
All of it in processor time of the busiest rank, which does not suffer when processes share cores: wall times of a busy
machine say nothing. *Memory*: the plan of a whole run against the peak of resident memory of rank 0 (VmHWM) until
training is done.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

import torch

from distsae.parallel import Mesh
from distsae.planning.cluster import PlanConfig, cluster_plan
from distsae.planning.step_seconds import EXCHANGE
from distsae.recipes.check.finding import Finding
from distsae.recipes.check.table import as_json
from tests.benchmarks.cost_model import Job
from tests.benchmarks.measured_step import Summary, measure_steps, summary
from tests.benchmarks.memory_plan import D_IN, HELDOUT, STEPS, TOKENS, measured
from tests.benchmarks.random_store import synthetic_store
from tests.distributed.processes import run_on_mesh

_PARTS = {"selection": "encode", "matched rows": "rows", "update": "update"}
"""Parts of a plan by what `measured_step` calls them."""

_NUMBERS = 1 << 21
"""Numbers of the sum that gives the rate of an exchange."""

MESHES = ((1, 1), (1, 2), (2, 1), (2, 2), (1, 4), (4, 1))


def sums(mesh: Mesh) -> tuple[float, float]:
    """Processor seconds of a sum of many numbers over all ranks, and of one of a single number."""
    found = []
    for numbers, times in ((_NUMBERS, 5), (1, 200)):
        tensor = torch.ones(numbers)
        mesh.world.sum(tensor)
        begun = time.process_time()
        for _ in range(times):
            mesh.world.sum(tensor)
        found.append((time.process_time() - begun) / times)
    return found[0], found[1]


def check_file(job: Job, widths: tuple[int, int], steps: int, store: Path, out: Path) -> Path:
    """Measures what a check would, in processor time, and writes its file."""
    found = []
    for d_sae in widths:
        one = _measured(_with(job, d_sae, (1, 1)), steps, store)
        parts = {
            f"{name}_s": one.parts[part]
            for name, part in zip(("selection", "rows", "update"), _PARTS.values(), strict=True)
        }
        found.append(Finding("step", "ok", "", {"d_sae": d_sae, "step_s": sum(parts.values())} | parts))
    rates = run_on_mesh(sums, (1, 2))
    long, short = mean(rate[0] for rate in rates), mean(rate[1] for rate in rates)
    figures = {"processes": 2, "sum_bytes_per_s": 4 * _NUMBERS / max(long - short, 1e-9), "sum_latency_s": short}
    found.append(Finding("exchange", "ok", "", figures))
    out.write_text(as_json(found, {"d_in": job.d_in, "k": round(job.k), "batch_tokens": job.tokens, "device": "cpu"}))
    return out


def _with(job: Job, d_sae: int, mesh: tuple[int, int]) -> Job:
    return Job(d_in=job.d_in, d_sae=d_sae, tokens=job.tokens, k=job.k, data=mesh[0], feature=mesh[1])


def _measured(job: Job, steps: int, store: Path) -> Summary:
    found = run_on_mesh(measure_steps, (job.data, job.feature), job, str(store), "random", steps, 3, seconds=900)
    return summary(job, found)


def planned(job: Job, check: Path) -> dict[str, float]:
    """Returns the seconds by part that `distsae plan` says, those of all exchanges together."""
    plan = cluster_plan(
        PlanConfig(
            d_in=job.d_in,
            d_sae=job.d_sae,
            k=round(job.k),
            batch_tokens=job.tokens,
            aux="none",
            gpus=job.ranks,
            data=job.data,
            feature=job.feature,
            hardware="cpu",
            check=str(check),
        )
    )
    parts = plan.chosen.step.parts
    exchanged = sum(seconds for name, seconds in parts.items() if name.startswith(EXCHANGE))
    return {name: parts[name] for name in _PARTS} | {"exchanges": exchanged}


def print_times(job: Job, steps: int) -> None:
    """Prints the table of times; `job` has the width that a rank of a split mesh has."""
    wide, narrow = 2 * job.d_sae, job.d_sae // 2
    cases = [(job.d_sae, (1, 1)), *((job.d_sae, mesh) for mesh in MESHES[1:]), (2 * job.d_sae, (1, 2))]
    print(f"\nd_in {job.d_in}, {job.tokens} tokens, k {job.k:g}; measured before: {narrow} and {wide} on 1x1")
    names = (*_PARTS, "exchanges", "all")
    print(
        f"\nprocessor ms: planned, measured\n\n| d_sae | mesh | {' | '.join(names)} | planned over measured |\n"
        + "|---" * (3 + len(names))
        + "|"
    )
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        synthetic_store(store, max(4 * job.tokens * (steps + 4), 1 << 15), job.d_in)
        check = check_file(job, (narrow, wide), steps, store, Path(folder) / "check.json")
        for d_sae, mesh in cases:
            of = _with(job, d_sae, mesh)
            guess, real = planned(of, check), _measured(of, steps, store)
            found = {name: real.parts[part] for name, part in _PARTS.items()} | {"exchanges": real.exchange_processor}
            guess["all"], found["all"] = sum(guess.values()), sum(found.values())
            cells = " | ".join(f"{1e3 * guess[name]:.1f}, {1e3 * found[name]:.1f}" for name in names)
            ratio = guess["all"] / found["all"]
            print(f"| {d_sae} | {mesh[0]}x{mesh[1]} | {cells} | {ratio:.2f} |", flush=True)


def print_memory(d_sae: int, meshes: list[tuple[int, int]]) -> None:
    """Prints the table of memory."""
    print(f"\nMiB of rank 0; d_in {D_IN}, {TOKENS} tokens, d_sae {d_sae}\n")
    print("| mesh | planned | measured | planned over measured |\n" + "|---" * 4 + "|")
    with tempfile.TemporaryDirectory() as folder:
        synthetic_store(Path(folder) / "store", 2 * STEPS * TOKENS + HELDOUT, D_IN, 1 << 15, HELDOUT)
        for data, feature in meshes:
            place = Path(folder) / f"{data}x{feature}"
            place.mkdir()
            options = json.dumps({"d_sae": d_sae, "mesh": [data, feature]})
            guess = planned_memory(Path(folder) / "store", d_sae, (data, feature))
            real = measured([options], data * feature, place)["measured"][0]
            print(f"| {data}x{feature} | {guess:.0f} | {real:.0f} | {guess / real:.2f} |", flush=True)


def planned_memory(store: Path, d_sae: int, mesh: tuple[int, int]) -> float:
    """Returns the MiB that the command `distsae plan` says of the first rank until training is done."""
    words = f"plan --store {store} --hook random --d_sae {d_sae} --batch_tokens {TOKENS} --hardware cpu --json"
    words += f" --gpus {mesh[0] * mesh[1]} --data {mesh[0]} --feature {mesh[1]}"
    items = json.loads(_output(words))["memory_items"]
    moments = ("start", "select", "update", "save")
    return max(sum(item["bytes"] for item in items if moment in item["when"]) for moment in moments) / 2**20


def _output(words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "distsae", *words.split()], capture_output=True, text=True, check=True)
    return done.stdout


def main() -> None:
    """Prints what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("time", "memory"), help="both without it")
    parser.add_argument("--d_in", type=int, default=512)
    parser.add_argument("--d_sae", type=int, default=8192)
    parser.add_argument("--batch_tokens", type=int, default=1024)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--memory_d_sae", type=int, default=32768)
    parser.add_argument("--memory_meshes", nargs="+", default=["1x1", "1x2", "2x1", "2x2", "1x4"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    if given.only in (None, "time"):
        print_times(Job(d_in=given.d_in, d_sae=given.d_sae, tokens=given.batch_tokens, k=given.k), given.steps)
    if given.only in (None, "memory"):
        meshes = [(int(data), int(feature)) for data, feature in (mesh.split("x") for mesh in given.memory_meshes)]
        print_memory(given.memory_d_sae, meshes)


if __name__ == "__main__":
    main()
