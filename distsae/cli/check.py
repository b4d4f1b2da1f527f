"""`distsae check`: whether this machine computes what training needs, and how fast."""

from __future__ import annotations

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = (
    "Check this machine before the first training: versions, devices, kernels, collectives, reproducible runs, and the "
    "rates that bound a step. It takes a few minutes; code 1 if something failed."
)

EXAMPLES = """\
  distsae check                                   all GPUs, or two processes on a CPU
  distsae check --folder /scratch/me --json check.json
  distsae check --d_in 4096 --batch_tokens 8192   the sizes of the training that is planned
"""


def run(argv: list[str]) -> int:
    """Parses `argv`, looks at the machine and returns the exit code."""
    from distsae.cli.parsing import parse
    from distsae.recipes.check import CheckConfig

    config = parse(CheckConfig, argv, prog="distsae check", examples=EXAMPLES, help=HELP)
    from distsae.recipes.check.check import run_check

    return run_check(config)
