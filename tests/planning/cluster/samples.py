"""Plans that need no store, and a file of a check."""

from __future__ import annotations

from pathlib import Path

from distsae.planning.cluster import ClusterPlan, PlanConfig, cluster_plan
from distsae.recipes.check.finding import Finding
from distsae.recipes.check.table import as_json


def plan_config(**changes: object) -> PlanConfig:
    """A run of 2^20 features on eight GPUs."""
    return PlanConfig(**({"d_in": 4096, "d_sae": 1 << 20} | changes))


def plan(**changes: object) -> ClusterPlan:
    """Its plan."""
    return cluster_plan(plan_config(**changes))


def check_file(folder: Path, device: str = "cpu", exchange: bool = True) -> str:
    """A file as `distsae check --json` writes it, of two widths."""
    found = [
        Finding("step", "ok", "", {"d_sae": d_sae, "step_s": 1.0, "selection_s": s, "rows_s": 0.02, "update_s": u})
        for d_sae, s, u in ((1 << 14, 0.2, 0.1), (1 << 17, 1.6, 0.7))
    ]
    if exchange:
        figures = {"processes": 2, "sum_bytes_per_s": 1e9, "sum_latency_s": 2e-4}
        found.append(Finding("exchange", "ok", "", figures))
    found.append(Finding("reading", "ok", "", {"read_bytes_per_s": 1e9}))
    path = folder / "check.json"
    path.write_text(as_json(found, {"d_in": 768, "k": 32, "batch_tokens": 4096, "device": device}))
    return str(path)
