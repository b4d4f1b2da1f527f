"""`distsae supervise`: a launch that is restarted after a crash; signals and exit codes are passed on."""

from __future__ import annotations

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = "Run `accelerate launch` and restart it after a crash; its arguments follow `--`."
EXAMPLES = """
  distsae supervise -- --config_file cluster_configs/gpu_8.yaml -m distsae train --store store --out runs/mc \\
      --sae.d_sae 131072 --mesh.feature 8
  distsae supervise --restarts 20 --pause 30 -- --config_file cluster_configs/gpu_8.yaml \\
      -m distsae train --config run.yaml
  kill -USR1 $SUPERVISOR     stops the training after a checkpoint; the exit code is 75; the same command resumes it
"""


def run(argv: list[str]) -> int:
    """Parses the arguments before `--`, supervises a launch with those after it, and returns the exit code."""
    from distsae.cli.parsing import parse
    from distsae.launching import SuperviseConfig, supervise

    position = argv.index("--") if "--" in argv else len(argv)
    config = parse(SuperviseConfig, argv[:position], prog="distsae supervise", examples=EXAMPLES, help=HELP)
    return supervise(config, argv[position + 1 :])
