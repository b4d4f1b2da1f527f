"""What a plan says in words: the first bottleneck, what data ranks repeat, and where reading limits wide meshes."""

from __future__ import annotations

from distsae.planning.cluster.plan import ClusterPlan
from distsae.planning.step_seconds import EXCHANGE

__all__ = ["adam_note", "bottleneck", "reading_note"]


def bottleneck(plan: ClusterPlan) -> str:
    """Returns the first thing that bounds the run, and how much of it."""
    chosen, step = plan.chosen, plan.chosen.step
    if not chosen.fits:
        return f"memory: no mesh of {plan.config.gpus} devices holds the run; use more of them, or a smaller `d_sae`"
    if not plan.checkpoint.in_time:
        return "writing checkpoints takes longer than the time between two; set `checkpoint_every` higher"
    name = step.bottleneck
    if name in step.meanwhile:
        rest = sum(step.parts.values())
        return f"{name}, {1e3 * step.whole:,.3g} ms, for which the step of {1e3 * rest:,.3g} ms waits"
    if name.startswith(EXCHANGE):
        return (
            f"{name.removeprefix(EXCHANGE)}, exchanged between ranks, {step.parts[name] / step.whole:.0%} of the step"
        )
    return f"{name}, {step.parts[name] / step.whole:.0%} of the step"


def adam_note(plan: ClusterPlan) -> str:
    """Returns a line on what data ranks repeat or divide; empty where there is nothing to."""
    chosen = plan.chosen
    data = chosen.mesh.data
    if data == 1 or plan.config.engine != "plain":
        return ""
    moments = sum(item.bytes for item in chosen.items if item.name.startswith("Adam's moments")) / 2**30
    update = 1e3 * chosen.step.parts["update"]
    if chosen.shape.divide_moments:
        sent = sum(exchange.received for exchange in chosen.exchanges if exchange.name == "updated rows")
        return (
            f"data ranks divide Adam (`--optimizer.divide_moments true`): each of the {data} with the same features "
            f"updates its share, {update:,.3g} ms of a step, holds {moments:,.3g} GiB of moments, and gets "
            f"{sent / 1e6:,.0f} MB of updated rows from the others"
        )
    rows = 8 * chosen.shape.own_features * chosen.shape.d_in * (data - 1) / data
    return (
        f"data ranks repeat Adam: each of the {data} with the same features sums all their gradients and updates "
        f"all of them, {update:,.3g} ms of a step, and holds {moments:,.3g} GiB of moments; divided, it "
        f"would be {update / data:,.3g} ms and {moments / data:,.3g} GiB, and {rows / 1e6:,.0f} MB of updated "
        "rows to exchange"
    )


def reading_note(plan: ClusterPlan) -> str:
    """Returns a line on the width of the mesh from which reading is slower than the step; empty if it never is."""
    limited = [found for found in plan.meshes if found.step.bottleneck == "reading"]
    if not limited:
        return ""
    named = ", ".join(f"{found.mesh.data} x {found.mesh.feature}" for found in limited[:4])
    return (
        f"reading limits {named}: each feature rank reads all rows of its data rank, and each machine all rows of its "
        f"data ranks from the disk, at {plan.hardware.disk / 1e9:,.3g} GB/s"
    )
