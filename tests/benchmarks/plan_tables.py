"""Plans of wide dictionaries on many GPUs as the tables of docs/planning.md; computed, not measured.

    python -m tests.benchmarks.plan_tables
    python -m tests.benchmarks.plan_tables --hardware a100 --millions 16 --gpus 64

Each row is what `distsae plan --d_in 4096 --d_sae N --gpus N --hardware NAME` says.
"""

from __future__ import annotations

import argparse

from distsae.planning.cluster import ClusterPlan, PlanConfig, cluster_plan
from distsae.planning.cluster.notes import bottleneck
from distsae.planning.step_seconds import EXCHANGE

_HEADS = (
    "features | GPUs | mesh | GiB a GPU | selection | matched rows | update | exchanges | reading, beside | step, ms "
    "| M tokens/s | GPU hours for 10^9 tokens | MB received, collectives | first bottleneck"
)


def row(plan: ClusterPlan, millions: int) -> str:
    """Returns the line of a plan."""
    chosen, step = plan.chosen, plan.chosen.step
    mesh, size = f"{chosen.mesh.data}x{chosen.mesh.feature}", chosen.rank_bytes / 2**30
    begin = f"| {millions}M | {plan.config.gpus} | {mesh} | {size:.0f} |"
    if not chosen.fits:
        return begin + f" does not fit {'| ' * 10}|"
    exchanged = sum(seconds for name, seconds in step.parts.items() if name.startswith(EXCHANGE))
    parts = (*(step.parts[name] for name in ("selection", "matched rows", "update")), exchanged)
    times = " | ".join(f"{1e3 * seconds:.1f}" for seconds in (*parts, step.meanwhile["reading"]))
    return (
        f"{begin} {times} | **{1e3 * step.whole:.0f}** | {step.tokens_per_second / 1e6:.2f} | "
        f"{1e9 / step.tokens_per_second / 3600 * plan.config.gpus:,.0f} | "
        f"{chosen.received / 1e6:,.0f}, {chosen.calls} | {bottleneck(plan).split(',')[0].split(':')[0]} |"
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 16, 34])
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256, 512])
    parser.add_argument("--hardware", default="h100")
    parser.add_argument("--d_in", type=int, default=4096)
    parser.add_argument("--batch_tokens", type=int, default=65_536)
    parser.add_argument("--optimizer_state", default="fp32")
    given = parser.parse_args()
    print(f"| {_HEADS} |\n" + "|---" * 14 + "|")
    for millions in given.millions:
        for gpus in given.gpus:
            config = PlanConfig(
                d_in=given.d_in,
                d_sae=millions << 20,
                batch_tokens=given.batch_tokens,
                optimizer_state=given.optimizer_state,
                gpus=gpus,
                hardware=given.hardware,
            )
            print(row(cluster_plan(config), millions), flush=True)


if __name__ == "__main__":
    main()
