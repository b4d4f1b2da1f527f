"""`distsae report RUN [RUN ...]`."""

from __future__ import annotations

from distsae.cli import parsing

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = "one static HTML page with tables and figures; several runs side by side"

EXAMPLES = """\
  distsae report runs/mc                         writes runs/mc/report/index.html
  distsae report runs/tc runs/mc runs/fc         writes runs/report/index.html
  distsae report runs/tc runs/mc --out public
"""


def run(argv: list[str]) -> int:
    """Makes the page and prints its path."""
    from distsae.reporting import ReportConfig, report

    config = parsing.parse(
        ReportConfig, argv, prog="distsae report", examples=EXAMPLES, help=HELP, positionals=("runs",)
    )
    print(report(config))
    return 0
