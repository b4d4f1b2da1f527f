"""`distsae demo`: the whole pipeline, with the embedded model and corpus, in two processes."""

from __future__ import annotations

from distsae.cli.parsing import parse

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = "the whole pipeline on this machine: embedded model and corpus, two processes, three SAEs, a report"
EXAMPLES = """
  distsae demo                           into ./demo; run it again to go on where it was stopped
  distsae demo --out /tmp/demo --fresh   from the beginning
  distsae demo --out small --max_rows 50000 --d_sae 512 --steps 100
"""


def run(argv: list[str]) -> int:
    """Parses `argv` and runs the demo."""
    from distsae.recipes import DemoConfig, run_demo

    return run_demo(parse(DemoConfig, argv, prog="distsae demo", examples=EXAMPLES, help=HELP))
