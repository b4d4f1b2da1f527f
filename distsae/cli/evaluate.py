"""`distsae evaluate RUN|SAE --store STORE`: measures a trained SAE and prints the headline numbers."""

from __future__ import annotations

from typing import Any

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = "Measure fidelity, spliced loss, density and adaptivity of a trained SAE; write evaluation.json."

EXAMPLES = """\
  distsae evaluate runs/mc --store stores/gpt2
  distsae evaluate runs/mc --store stores/gpt2 --corpus other.jsonl --out runs/mc/evaluation-other.json
  distsae evaluate runs/mc/sae --store stores/gpt2 --model models/gpt2 --max_tokens 1000000 --device cuda
  distsae evaluate user/repository/folder --store stores/gpt2 --out fetched.json      (an SAE on the Hugging Face Hub)
"""

_SHOWN = (
    ("FVU", "fvu"),
    ("relative error", "relative_error"),
    ("L0", "l0"),
    ("loss recovered (zero ablation)", "loss_recovered_zero"),
    ("loss recovered (mean ablation)", "loss_recovered_mean"),
    ("KL divergence", "kl"),
    ("dead share", "dead_share"),
    ("underutilised share", "underutilised_share"),
)
"""Headline numbers: label and key of `evaluation.json`, of the training rule and the frozen one alike."""


def run(argv: list[str]) -> int:
    """Parses `argv`, evaluates, writes the files and prints the headline numbers of both rules."""
    from distsae.cli.parsing import parse
    from distsae.evaluation.config import EvaluateConfig

    config = parse(EvaluateConfig, argv, prog="distsae evaluate", examples=EXAMPLES, help=HELP, positionals=("run",))
    from distsae.evaluation.evaluate import evaluate

    out, measured = evaluate(config)
    result: dict[str, Any] = measured
    frozen = result["frozen_rule"]
    print(f"{'':<34} {'training rule':<34} frozen rule")
    for label, name in _SHOWN:
        print(f"{label:<34} {_value(result, name):<34} {_value(frozen, name)}".rstrip())
    for where, why in {**result.get("undefined", {}), **frozen.get("undefined", {})}.items():
        print(f"{where} is not defined: {why}")
    if result["rows_left_out"]:
        print(
            f"rows left out: {result['rows_left_out']:,} ({result['left_out_share']:.3%}) with a norm over "
            f"{result['max_norm']:.6g}; the figures with them are in with_left_out_rows"
        )
    print(f"wrote {out} and {out.with_suffix('.npz').name}")
    return 0


def _value(result: dict[str, Any], name: str) -> str:
    """Returns a number with its interval; an empty string if it was not measured."""
    value, interval = result.get(name), result.get(f"{name}_ci95")
    if value is None:
        return ""
    if not interval or None in interval:
        return f"{value:.4f}"
    return f"{value:.4f} [{interval[0]:.4f}, {interval[1]:.4f}]"
