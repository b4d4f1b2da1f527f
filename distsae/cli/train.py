"""`distsae train`: reads a store and writes a run folder with an SAE, or one for each member of a sweep."""

from __future__ import annotations

from distsae.errors import WrongInput
from distsae.progress import is_main_process
from distsae.standard_streams import show

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = "Train one SAE or a sweep of them on an activation store, alone or under `accelerate launch`."
EXAMPLES = """
  distsae train --store store --out runs/mc --sae.d_sae 4096 --sae.k 32
  accelerate launch --config_file cluster_configs/cpu_2.yaml -m distsae train \\
      --store store --out runs/mc --sae.d_sae 4096 --mesh.feature 2
  distsae train --config run.yaml --finetune_fc_from 0.9
  distsae train --config run.yaml --mesh.feature 8 --dry_run
  distsae train --config run.yaml --mesh.feature 8 --dry_run --device cuda --memory_gb 80
  distsae train --config run.yaml --mesh.feature 8 --dry_run --check check.json
  distsae train --store store --out runs/sweep --sweep.k '[16,32,64]' --sweep.seed '[0,1]'
"""


def run(argv: list[str]) -> int:
    """Parses `argv`, trains or prints what training would take, and returns the exit code."""
    from distsae.cli.parsing import parse
    from distsae.cli.train_arguments import TrainArguments
    from distsae.planning import require_room
    from distsae.training import train

    arguments = parse(TrainArguments, argv, prog="distsae train", examples=EXAMPLES, help=HELP)
    if arguments.dry_run:
        from distsae.planning import dry_run

        plan = dry_run(arguments.config(), arguments.memory_gb, arguments.device, arguments.check)
        if is_main_process():
            show(plan)
        return 0
    if arguments.memory_gb is not None:
        raise WrongInput(f"`memory_gb` (={arguments.memory_gb}) must be given with `dry_run`; add --dry_run")
    if arguments.device != "auto":
        raise WrongInput(
            f"`device` (={arguments.device}) must be given with `dry_run`, as accelerate chooses the device of a run; "
            "add --dry_run, or set ACCELERATE_USE_CPU=true to train on the CPU"
        )
    if arguments.check is not None:
        raise WrongInput(f"`check` (={arguments.check}) must be given with `dry_run`, which reads it; add --dry_run")
    train(arguments.config(), check=require_room)
    return 0
