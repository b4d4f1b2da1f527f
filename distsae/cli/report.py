"""`distsae report RUN [RUN ...]`: writes one page about one run or several and prints its path."""

from __future__ import annotations

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = "Write one static HTML page with tables and figures, several runs side by side."

EXAMPLES = """\
  distsae report runs/mc                         writes runs/mc/report/index.html
  distsae report runs/tc runs/mc runs/fc         writes runs/report/index.html
  distsae report runs/tc runs/mc --out public
"""


def run(argv: list[str]) -> int:
    """Parses `argv`, writes the page and prints its path."""
    from distsae.cli.parsing import parse
    from distsae.reporting import ReportConfig, report

    config = parse(ReportConfig, argv, prog="distsae report", examples=EXAMPLES, help=HELP, positionals=("runs",))
    print(report(config))
    return 0
