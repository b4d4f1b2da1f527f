"""`distsae train`: a store in, a run folder with an SAE out, or one for each member of a sweep."""

from __future__ import annotations

from distsae.cli.parsing import parse

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = "train one SAE or a sweep of them on an activation store, alone or under accelerate launch"
EXAMPLES = """
  distsae train --store store --out runs/mc --sae.d_sae 4096 --sae.k 32
  accelerate launch --config_file cluster_configs/cpu_2.yaml -m distsae train \\
      --store store --out runs/mc --sae.d_sae 4096 --mesh.feature 2
  distsae train --config run.yaml --finetune_fc_from 0.7 --quotas zipf
  distsae train --store store --out runs/sweep --sweep.k '[16,32,64]' --sweep.seed '[0,1]'
"""


def run(argv: list[str]) -> int:
    """Parses `argv` and trains."""
    from distsae.training import TrainConfig, train

    train(parse(TrainConfig, argv, prog="distsae train", examples=EXAMPLES, help=HELP))
    return 0
