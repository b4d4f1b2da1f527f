"""`distsae export RUN|SAE --to TOOL --out DIR`: writes a finished SAE as the files of another tool, or onto the Hub."""

from __future__ import annotations

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = "Write a finished SAE as the files of SAELens, dictionary_learning or sparsify, or put it on the Hub."

EXAMPLES = """\
  distsae export runs/mc --to saelens --out exported/mc --license mit
  distsae export runs/mc --to dictionary_learning --out exported/mc --dtype bf16
  distsae export runs/tc --to sparsify --out exported/layers.11 --model HuggingFaceTB/SmolLM2-135M
  distsae export runs/mc --to hub --repo user/name --path_in_repo layer-11 --private
  distsae export runs/mc --to saelens --out exported/mc --repo user/name
"""


def run(argv: list[str]) -> int:
    """Parses `argv`, exports, and prints where the files are."""
    from distsae.cli.parsing import parse
    from distsae.export.config import ExportConfig

    config = parse(ExportConfig, argv, prog="distsae export", examples=EXAMPLES, help=HELP, positionals=("run",))
    from distsae.export.export import export

    print(export(config))
    return 0
