"""How much memory a selection takes as the dictionary grows: it follows the target and the budget, not the width.

    python -m tests.benchmarks.selection_memory

Every width is measured in a process of its own: the peak of resident memory during a selection less what was resident
before it, parameters included. A pair of figures is the first step, which has no lower bounds yet, and the third. Linux
only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from distsae.allocation import FeatureSelector, MutualSelector, Placement, Selector, TokenSelector, select
from distsae.model import SELECTION_MB, FeatureShard

WIDTHS = (16384, 65536, 262144)
TOKENS = 2048
K = 32
D_IN = 64
RULES = ("TC", "MC", "MC + aux", "FC")
# Otherwise the allocator keeps what was freed, and the next measurement does not see it.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def measured_in_a_process(
    d_sae: int, tokens: int, k: int, d_in: int, selection_mb: float, prefilter: bool = False
) -> dict[str, float]:
    """Returns MiB by `RULE, STEP`: the first step has no lower bounds yet, the third is as all that follow."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.selection_memory",
        "--one",
        json.dumps([d_sae, tokens, k, d_in, selection_mb, prefilter]),
    ]
    done = subprocess.run(
        command, env=os.environ | _ENVIRONMENT, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)


def _measure(d_sae: int, tokens: int, k: int, d_in: int, selection_mb: float, prefilter: bool) -> dict[str, float]:
    torch.set_num_threads(1)
    shard = FeatureShard(d_in, d_sae, range(d_sae), torch.zeros(d_in), 0, selection_mb, prefilter=prefilter)
    list(shard.encode_chunks(torch.zeros(8, d_in)))  # so that the prefilter has its copy of the rows
    quotas = torch.full((d_sae,), k * tokens // d_sae)
    quotas[: k * tokens % d_sae] += 1
    by_feature = FeatureSelector(d_sae)
    by_feature.grant(quotas)
    auxiliary = MutualSelector(2 * k, torch.arange(d_sae) % 2 == 0)
    rules: dict[str, list[Selector]] = {
        "TC": [TokenSelector(k)],
        "MC": [MutualSelector(k)],
        "MC + aux": [MutualSelector(k), auxiliary],
        "FC": [by_feature],
    }
    found = {}
    for name, selectors in rules.items():
        for seed, step in enumerate(("first", "second", "third")):
            x = torch.randn(tokens, d_in, generator=torch.Generator().manual_seed(seed))
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            before = _status("VmRSS")
            select(selectors, lambda x=x: shard.encode_chunks(x), Placement.solo(d_sae), tokens)
            found[f"{name}, {step}"] = _status("VmHWM") - before
    return found


def _status(key: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--selection_mb", type=float, default=SELECTION_MB)
    parser.add_argument("--one", type=json.loads)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_measure(*arguments.one)))
        return
    print(f"{TOKENS} tokens, k {K}, selection_mb {arguments.selection_mb:g}; MiB over what was resident before")
    print("| d_sae | tokens x d_sae in fp32 | scores |" + "|".join(f" {rule} " for rule in RULES) + "|")
    print("|---" * (3 + len(RULES)) + "|")
    for d_sae in arguments.widths:
        for prefilter in (False, True):
            found = measured_in_a_process(d_sae, TOKENS, K, D_IN, arguments.selection_mb, prefilter)
            whole = f"{d_sae * TOKENS * 4 / (1 << 20):.0f}"
            peaks = "|".join(f" {found[f'{rule}, first']:.0f} / {found[f'{rule}, third']:.0f} " for rule in RULES)
            print(f"| {d_sae} | {whole} | {'bf16' if prefilter else 'fp32'} |{peaks}|", flush=True)


if __name__ == "__main__":
    main()
