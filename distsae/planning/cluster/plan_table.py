"""A plan of a cluster as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from distsae.planning.cluster.meshes import MeshPlan
from distsae.planning.cluster.notes import adam_note, bottleneck, reading_note
from distsae.planning.cluster.plan import ClusterPlan
from distsae.planning.cluster.store_size import store_size
from distsae.planning.items import MemoryKind
from distsae.planning.step_seconds import EXCHANGE
from distsae.planning.wording import gib, memory_table

__all__ = ["plan_lines"]

_RUNNERS_UP = 3
"""Meshes that are shown beside the best one."""


def plan_lines(plan: ClusterPlan) -> list[str]:
    """Returns the lines of a plan: mesh, memory, step, exchanges, run, store, producers, checkpoints, bottleneck."""
    config, chosen = plan.config, plan.chosen
    device = "the host's memory" if chosen.memory.device is None else "the GPU"
    where: MemoryKind = "host" if chosen.memory.device is None else "device"
    has = chosen.memory.host // chosen.memory.processes if where == "host" else plan.hardware.memory_bytes
    lines = [
        f"d_sae {config.d_sae:,}, d_in {plan.inputs.d_in:,}, k {config.k}, {config.batch_tokens:,} tokens a batch, "
        f"{config.allocation}, aux {config.aux}, Adam in {config.optimizer_state}, engine {config.engine}",
        f"{config.gpus} x {plan.hardware.name}, {plan.hardware.node_size} a machine; {_source(plan)}",
        "",
        *_mesh_table(plan.meshes),
        "",
        f"memory of the first rank, on {device}; {gib(has)} each: {'it fits' if chosen.fits else 'it does not fit'}",
        *memory_table(chosen.items, where),
    ]
    if where == "device":
        lines += ["", "in the host's memory", *memory_table(chosen.items, "host")]
    lines += [
        f"largest d_sae that fits on this mesh: {plan.largest:,}",
        "",
        *_step_table(plan),
        "",
        *_exchange_table(chosen),
        "",
        f"{chosen.step.tokens_per_second:,.0f} tokens/s; {plan.steps:,} steps in {_days(plan.days)}, "
        f"{plan.gpu_hours:,.4g} {'GPU' if plan.hardware.gpu else 'core'} hours",
        *_store_lines(plan),
        _producers(plan),
        _checkpoints(plan),
        *filter(None, (adam_note(plan), reading_note(plan))),
        f"bottleneck: {bottleneck(plan)}",
    ]
    return lines


def _source(plan: ClusterPlan) -> str:
    if plan.rates is None:
        return "times are computed from data sheets, and not measured"
    sizes = plan.rates.sizes
    text = (
        f"times follow from a step that was measured at d_sae {plan.chosen.step.measured_at or 0:,}, "
        f"d_in {sizes.d_in}, {sizes.batch_tokens} tokens, k {sizes.k}"
    )
    if plan.chosen.exchanges and plan.rates.exchange_bytes is None:
        text += "; no exchange was measured, and its rates are those of a data sheet"
    if plan.machines > 1:
        text += "; those between machines are computed"
    if plan.unmeasured:
        text += f"; not measured: {', '.join(plan.unmeasured)}"
    return text


def _mesh_table(meshes: Sequence[MeshPlan]) -> Iterator[str]:
    heads = f"{'step, ms':>12}{'tokens/s':>14}{'GiB a rank':>12}{'MB received':>13}  bottleneck"
    yield f"{'mesh (data x feature)':<24}{heads}"
    for number, plan in enumerate(meshes[: 1 + _RUNNERS_UP]):
        name = f"{plan.mesh.data} x {plan.mesh.feature}"
        name += ", divided" * plan.shape.divide_moments + ", best" * (number == 0)
        yield (
            f"{name:<24}{_ms(plan.step.whole):>12}{plan.step.tokens_per_second:>14,.0f}{plan.rank_bytes / 2**30:>12.1f}"
            f"{plan.received / 1e6:>13,.1f}  {plan.step.bottleneck if plan.fits else 'does not fit'}"
        )
    more = len(meshes) - 1 - _RUNNERS_UP
    if more > 0:
        yield f"and {more} more"


def _step_table(plan: ClusterPlan) -> Iterator[str]:
    step = plan.chosen.step
    yield f"{'step by part':<34}{'ms':>10}{'share':>8}"
    for name, seconds in step.parts.items():
        yield f"{name:<34}{_ms(seconds):>10}{seconds / step.whole:>8.0%}"
    for name, seconds in step.meanwhile.items():
        yield f"{name + ', meanwhile':<34}{_ms(seconds):>10}"
    yield f"{'step':<34}{_ms(step.whole):>10}"


def _exchange_table(chosen: MeshPlan) -> Iterator[str]:
    if not chosen.exchanges:
        yield "one process exchanges nothing"
        return
    yield f"{'exchanges of a step':<34}{'calls':>10}{'MB received':>14}  among"
    for exchange in chosen.exchanges:
        ranks = f"{exchange.ranks(chosen.shape)} {exchange.axis} ranks" if exchange.axis != "world" else "all ranks"
        name = f"{exchange.name}, {'sum' if exchange.kind == 'all_reduce' else 'gather'}"
        yield f"{name:<34}{exchange.calls:>10}{exchange.received / 1e6:>14,.3f}  {ranks}"
    seconds = sum(value for name, value in chosen.step.parts.items() if name.startswith(EXCHANGE))
    yield f"{'together':<34}{chosen.calls:>10}{chosen.received / 1e6:>14,.3f}  in {_ms(seconds)} ms"


def _store_lines(plan: ClusterPlan) -> Iterator[str]:
    shape, size = plan.inputs.store, plan.inputs.size
    yield (
        f"store: {size.bytes / 1e12:,.3g} TB in {size.units:,} units of {shape.unit_rows:,} rows, chunks of "
        f"{shape.chunk_rows:,}; {size.files:,} files, {size.inodes:,} inodes"
    )
    if not plan.over_quota:
        return
    advice = plan.store_advice
    if advice is None:
        yield f"  over the quota of {plan.config.max_inodes:,} inodes, with any units and chunks; split it over stores"
        return
    options = [
        f"--{name} {getattr(advice, name)}"
        for name in ("unit_rows", "chunk_rows")
        if getattr(advice, name) != getattr(shape, name)
    ]
    yield (
        f"  over the quota of {plan.config.max_inodes:,} inodes; `distsae produce {' '.join(options)}` makes "
        f"{store_size(advice).inodes:,}, with batches that mix less well"
    )


def _producers(plan: ClusterPlan) -> str:
    if plan.producer is None or plan.producers is None:
        return "producers: give `model_parameters`, `model` or `producer_tokens_per_second` to know how many keep up"
    origin = "as given" if plan.config.producer_tokens_per_second is not None else "estimated"
    return (
        f"producers: {plan.producers:,} keep up, each with a device of this kind, at {plan.producer:,.0f} rows/s "
        f"({origin})"
    )


def _checkpoints(plan: ClusterPlan) -> str:
    cost = plan.checkpoint
    fits = "in time" if cost.in_time else "the next one is due before"
    return (
        f"checkpoints: {cost.bytes / 1e9:,.4g} GB, written in {_seconds(cost.seconds)}, one every "
        f"{_seconds(cost.interval)}: {fits}; training waits {_seconds(cost.copying)}; "
        f"{cost.kept / 1e9:,.4g} GB are kept"
    )


def _days(days: float) -> str:
    return f"{days:,.3g} days" if days >= 1 else f"{24 * days:,.3g} hours"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.3g} s" if seconds < 1e3 else f"{seconds:,.0f} s"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.3g}" if seconds < 1 else f"{1e3 * seconds:,.0f}"
