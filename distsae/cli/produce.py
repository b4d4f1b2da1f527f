"""`distsae produce`: turns text into an activation store."""

from __future__ import annotations

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = "Turn text into a store of a language model's activations; run it as often and on as many machines as you like."

EXAMPLES = """
  distsae produce --model gpt2 --corpus texts/ --hooks '[blocks.6.resid_post]' --out stores/gpt2 --max_rows 10000000
  distsae produce --config produce.yaml --seed 1
  distsae produce --config produce.yaml --out s3://bucket/gpt2       (credentials come from the environment)
  distsae produce --config produce.yaml --keep_units 16     (at most 16 units on disk; training reads them meanwhile)
  accelerate launch --config_file cluster_configs/X.yaml -m distsae produce --config produce.yaml   (shares the work)
  sbatch --array=0-7 ... distsae produce --config produce.yaml   (so does a job array; start killed jobs again)
"""


def run(argv: list[str]) -> int:
    """Parses `argv`, produces, and returns the exit code."""
    from distsae.cli.parsing import parse
    from distsae.producer import ProduceConfig, produce

    produce(parse(ProduceConfig, argv, prog="distsae produce", examples=EXAMPLES, help=HELP))
    return 0
