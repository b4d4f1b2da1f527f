"""Whether processes on this machine can exchange tensors."""

from __future__ import annotations

import json

from distsae.recipes.check.finding import Finding
from distsae.recipes.check.launched import run_launched

__all__ = ["groups_found"]


def groups_found(processes: int, seconds: float) -> Finding:
    """Starts some processes that exchange tensors over NCCL (on GPUs) and gloo, as a training does.

    Args:
        processes: number of processes.
        seconds: time limit.
    """
    name = f"exchange, {processes} processes"
    if processes < 2:
        return Finding("exchange", "skipped", "one process has no one to exchange with")
    launched = run_launched(["distsae.recipes.check.group_rank"], processes, seconds)
    lines = [line for line in launched.output.splitlines() if line.startswith("{")]
    figures = json.loads(lines[-1]) if lines else {}
    wrong = figures.pop("wrong", [])
    if wrong:
        return Finding(name, "failed", f"a wrong result from {', '.join(wrong)}", figures)
    if launched.problem or not figures:
        return Finding(name, "failed", launched.problem or "it said nothing")
    rate = figures["sum_bytes_per_s"] / 1e9
    backends = " and ".join(sorted({figures["backend"], "gloo"}))
    latency = 1e6 * figures["sum_latency_s"]
    text = f"right results over {backends}; {rate:,.3g} GB/s a process in a sum of 64 MiB, {latency:,.3g} us at least"
    return Finding(name, "ok", text, figures)
