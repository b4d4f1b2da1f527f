"""`distsae demo`: the whole pipeline on the embedded model and corpus, in two processes."""

from __future__ import annotations

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = "Run the whole pipeline here: embedded model and corpus, two processes, three SAEs, a report."
EXAMPLES = """
  distsae demo                           into ./demo; run it again to continue where it was stopped
  distsae demo --out /tmp/demo --fresh   from the beginning
  distsae demo --out small --max_rows 50000 --d_sae 512 --steps 100
"""


def run(argv: list[str]) -> int:
    """Parses `argv`, runs the demo and returns the exit code."""
    from distsae.cli.parsing import parse
    from distsae.recipes import DemoConfig, run_demo

    return run_demo(parse(DemoConfig, argv, prog="distsae demo", examples=EXAMPLES, help=HELP))
