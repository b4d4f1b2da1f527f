"""`distsae supervise`: a launch that is started again after a crash, and passes signals and exit codes on."""

from __future__ import annotations

from distsae.cli.parsing import parse

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = "accelerate launch that is started again after a crash; what follows `--` are its arguments"
EXAMPLES = """
  distsae supervise -- --config_file cluster_configs/gpu_8.yaml -m distsae train --store store --out runs/mc \\
      --sae.d_sae 131072 --mesh.feature 8
  distsae supervise --restarts 20 --pause 30 -- --config_file cluster_configs/gpu_8.yaml \\
      -m distsae train --config run.yaml
  kill -USR1 $SUPERVISOR     stops the training behind a checkpoint; the exit code is 75, and the same command goes on
"""


def run(argv: list[str]) -> int:
    """Parses what stands before `--` and supervises a launch with what stands behind."""
    from distsae.launching import SuperviseConfig, supervise

    position = argv.index("--") if "--" in argv else len(argv)
    config = parse(SuperviseConfig, argv[:position], prog="distsae supervise", examples=EXAMPLES, help=HELP)
    return supervise(config, argv[position + 1 :])
