"""`distsae stream`: producers and training side by side, over a store that never grows beyond a few units."""

from __future__ import annotations

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = "Train on text as it comes: producers fill a bounded store while training reads it; the same command resumes."

EXAMPLES = """
  distsae stream --config stream.yaml --dry_run     writes the two configs and prints the two launches
  distsae stream --config stream.yaml               run it again after a kill
  distsae stream --config stream.yaml --producers 2 --trainers 6     on a node of eight GPUs
  distsae stream --out streams/first --train '{sae.d_sae: 24576, sae.k: 32}' --produce '{model: gpt2, \\
      corpus: texts/, hooks: [blocks.6.resid_post], max_rows: 1000000000}'
  distsae stream --config stream.yaml --machines 2 --machine_rank 1 --main_process_ip node0     on the second of two
  distsae produce --config streams/first/produce.yaml     on another node, which then helps to produce

  # stream.yaml
  out: streams/first
  produce: {model: gpt2, corpus: texts/, hooks: [blocks.6.resid_post], max_rows: 1000000000, keep_units: 16}
  train: {batch_tokens: 8192, sae: {d_sae: 24576, k: 32}, optimizer: {lr: 1e-3}}
"""


def run(argv: list[str]) -> int:
    """Parses `argv`, runs producers and training, and returns the exit code."""
    from distsae.cli.parsing import from_keys, parse
    from distsae.recipes.stream import StreamConfig

    config = parse(StreamConfig, argv, prog="distsae stream", examples=EXAMPLES, help=HELP)
    from distsae.recipes.stream.stream import run_stream

    return run_stream(config, from_keys)
