"""`distsae study`: methods side by side over one store, each at its own best learning rate."""

from __future__ import annotations

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = "Train and evaluate a grid of methods over one store, peers too; write one table and one page."

EXAMPLES = """
  distsae study --config study.yaml --dry_run      lists the members and what they are in all
  distsae study --config study.yaml                run it again after a kill: finished members are skipped
  distsae study --store stores/gpt2 --out studies/paper --methods paper --common '{steps: 2000, batch_tokens: 4096}' \\
      --grid '{k: [16, 32, 64], d_sae: [12288], lr: [1e-3, 3e-3, 1e-2], seed: [0, 1, 2]}'
  distsae study --config study.yaml --methods ablations --out studies/ablations
  distsae study --config study.yaml --methods '[paper, peers]' --peers_python PEERS/bin/python

  # study.yaml
  store: stores/gpt2
  out: studies/first
  common: {steps: 2000, batch_tokens: 4096}
  methods:
    - paper
    - {name: MC then FC late, allocation: mutual_choice, aux: aux_zipf, finetune_fc_from: 0.9}
    - {name: SAELens BatchTopK, peer: sae_lens_batchtopk, lr: [3e-4, 1e-3, 3e-3]}
  grid: {k: [16, 32, 64], d_sae: [12288], lr: [1e-3, 3e-3, 1e-2], seed: [0, 1, 2]}
  evaluate: {max_tokens: 100000}
  peers_python: PEERS/bin/python
"""


def run(argv: list[str]) -> int:
    """Parses `argv`, carries out the study and returns the exit code."""
    from distsae.cli.parsing import from_keys, parse
    from distsae.recipes.study import StudyConfig

    config = parse(StudyConfig, argv, prog="distsae study", examples=EXAMPLES, help=HELP)
    from distsae.recipes.study.study import run_study

    return run_study(config, from_keys)
