"""A plan of a cluster as JSON: sizes in bytes and seconds, without rounding."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from distsae.planning.cluster.meshes import MeshPlan
from distsae.planning.cluster.notes import adam_note, bottleneck, reading_note
from distsae.planning.cluster.plan import ClusterPlan

__all__ = ["as_json"]


def as_json(plan: ClusterPlan) -> str:
    """Returns the plan as a JSON object."""
    chosen = plan.chosen
    size, cost = plan.inputs.size, plan.checkpoint
    found: dict[str, Any] = {
        **_mesh(chosen),
        "times": "computed" if plan.rates is None else "from a check",
        "hardware": plan.hardware.name,
        "gpus": plan.config.gpus,
        "gpus_per_node": plan.hardware.node_size,
        "memory_items": [dataclasses.asdict(item) for item in chosen.items],
        "largest_d_sae": plan.largest,
        "step_parts": chosen.step.parts,
        "step_meanwhile": chosen.step.meanwhile,
        "exchanges": [dataclasses.asdict(exchange) for exchange in chosen.exchanges],
        "steps": plan.steps,
        "days": plan.days,
        "gpu_hours": plan.gpu_hours,
        "store_bytes": size.bytes,
        "store_files": size.files,
        "store_inodes": size.inodes,
        "store_advice": _advice(plan),
        "producers": plan.producers,
        "producer_tokens_per_second": plan.producer,
        "checkpoint_bytes": cost.bytes,
        "checkpoint_seconds": cost.seconds,
        "checkpoint_interval_seconds": cost.interval,
        "bottleneck": bottleneck(plan),
        "notes": [line for line in (adam_note(plan), reading_note(plan)) if line],
        "other_meshes": [_mesh(other) for other in plan.meshes[1:]],
    }
    return json.dumps(found, indent=2)


def _mesh(plan: MeshPlan) -> dict[str, Any]:
    return {
        "mesh": dataclasses.asdict(plan.mesh),
        "divide_moments": plan.shape.divide_moments,
        "fits": plan.fits,
        "memory_gb_per_rank": plan.rank_bytes / 1e9,
        "step_seconds": plan.step.whole,
        "tokens_per_second": plan.step.tokens_per_second,
        "bytes_per_step": plan.received,
        "collectives_per_step": plan.calls,
    }


def _advice(plan: ClusterPlan) -> dict[str, int] | None:
    advice = plan.store_advice
    return None if advice is None else {"unit_rows": advice.unit_rows, "chunk_rows": advice.chunk_rows}
