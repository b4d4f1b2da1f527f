"""`distsae plan`: mesh, memory, time, exchanges, store and checkpoints of a training, before it is started."""

from __future__ import annotations

from distsae.standard_streams import show

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = (
    "Plan a training on a cluster: best mesh, memory, time, exchanges, store, producers, checkpoints; starts nothing."
)
EXAMPLES = """
  distsae plan --d_in 4096 --d_sae 16777216 --gpus 64 --hardware h100
  distsae plan --d_in 4096 --d_sae 1048576 --gpus 8 --hardware h200 --tokens 2000000000 --json
  distsae plan --model meta-llama/Llama-3.1-8B --hook blocks.15.resid_post --d_sae 1048576 --gpus 16 --max_inodes 200000
  distsae plan --store store --hook blocks.3.resid_post --d_sae 65536 --gpus 4 --batch_tokens 4096 --check check.json
  distsae plan --d_in 768 --d_sae 131072 --gpus 8 --data 1 --feature 8 --optimizer_state int8 --hardware l40s
"""


def run(argv: list[str]) -> int:
    """Parses `argv`, prints the plan and returns the exit code."""
    from distsae.cli.parsing import parse
    from distsae.planning.cluster import PlanConfig, as_json, cluster_plan, plan_lines

    config = parse(PlanConfig, argv, prog="distsae plan", examples=EXAMPLES, help=HELP)
    plan = cluster_plan(config)
    show(as_json(plan) if config.json else "\n".join(plan_lines(plan)))
    return 0
