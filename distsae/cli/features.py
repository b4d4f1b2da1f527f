"""`distsae features RUN|SAE --store STORE`: writes pages about the features of a trained SAE."""

from __future__ import annotations

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = "Write pages about the features of a trained SAE: what text they fire on, and beside which others."

EXAMPLES = """\
  distsae features runs/mc --store stores/gpt2                 writes runs/mc/features/index.html
  distsae features runs/mc --store stores/gpt2 --split heldout --out pages --format site,neuronpedia
  distsae features runs/mc/sae --store stores/gpt2 --model models/gpt2 --max_rows 5000000 --device cuda
  accelerate launch --num_processes 8 -m distsae features runs/wide --store stores/gpt2    or start it several times
"""


def run(argv: list[str]) -> int:
    """Parses `argv`, writes the pages and prints what to open."""
    from distsae.cli.parsing import parse
    from distsae.reporting.features import FeaturesConfig

    config = parse(FeaturesConfig, argv, prog="distsae features", examples=EXAMPLES, help=HELP, positionals=("run",))
    from distsae.progress import is_main_process
    from distsae.reporting.features.build import build_features

    out = build_features(config)
    if is_main_process():
        print(out / "index.html" if "site" in config.formats else out)
    return 0
