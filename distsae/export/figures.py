"""What a run has measured of its SAE, for the model card: `evaluation.json`, or else `frozen_rule.json`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distsae.checked_files import WrongField, read_json_object, typed
from distsae.errors import TornData
from distsae.model import SAEConfig
from distsae.model.formats.model_card import CardFigure, Measurements
from distsae.progress import say

__all__ = ["measurements"]

_SHOWN = (
    ("FVU (fraction of variance unexplained)", "fvu"),
    ("features per token (L0)", "l0"),
    ("loss recovered, against zero ablation", "loss_recovered_zero"),
    ("loss recovered, against mean ablation", "loss_recovered_mean"),
    ("KL divergence of the predictions", "kl"),
    ("share of features that never fired", "dead_share"),
)


@dataclass(frozen=True, kw_only=True)
class EvaluationFacts:
    """The fields of `evaluation.json` that say what was evaluated, and on what."""

    d_in: int
    d_sae: int
    k: int
    allocation: str
    hook: str
    rows: int
    corpus: str = ""
    split: str = ""
    context_length: int = 0
    excluded_positions: int = 0
    excluded_tokens: list[int] | None = None
    rows_left_out: int = 0


def measurements(run: Path, cfg: SAEConfig) -> Measurements:
    """Returns the figures of a run's SAE; none if nothing was measured.

    Args:
        run: folder of the run, or of an SAE.
        cfg: config of the SAE; an evaluation of another one is left out, and said to be.

    Raises:
        TornData: a file is damaged; the text names it.
    """
    if (file := run / "evaluation.json").is_file():
        content = read_json_object(file)
        facts = _typed(EvaluationFacts, content, file)
        mine = (cfg.d_in, cfg.d_sae, cfg.k, cfg.allocation, cfg.hook_name)
        if (facts.d_in, facts.d_sae, facts.k, facts.allocation, facts.hook) == mine:
            frozen = content.get("frozen_rule")
            return Measurements(figures=_rows(content, frozen if isinstance(frozen, dict) else {}), about=_about(facts))
        say(f"{file} is left out of the model card: it is of another SAE")
    if (file := run / "frozen_rule.json").is_file():
        content = read_json_object(file)
        training = {name.removesuffix("_training"): value for name, value in content.items() if "_training" in name}
        rows = content.get("rows")
        about = (f"Measured on {rows:,} held-out rows at the end of training.",) if isinstance(rows, int) else ()
        return Measurements(figures=_rows(training, content), about=about)
    return Measurements()


def _rows(training: dict[str, Any], frozen: dict[str, Any]) -> list[CardFigure]:
    rows = [
        CardFigure(name=label, training=_value(training, name), frozen=_value(frozen, name)) for label, name in _SHOWN
    ]
    return [row for row in rows if row.training or row.frozen]


def _value(values: dict[str, Any], name: str) -> str:
    """Returns a number with its interval; an empty text if it was not measured."""
    value, interval = values.get(name), values.get(f"{name}_ci95")
    if not _is_number(value):
        return ""
    if not isinstance(interval, list) or len(interval) != 2 or not all(map(_is_number, interval)):
        return f"{value:.4f}"
    return f"{value:.4f} [{interval[0]:.4f}, {interval[1]:.4f}]"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _about(facts: EvaluationFacts) -> list[str]:
    text = f"{facts.split} text of {Path(facts.corpus).name}" if facts.corpus else "held-out text"
    about = [
        f"Measured on {facts.rows:,} rows of {text}; in brackets, 95% intervals from a bootstrap over contexts. The "
        "training rule shares a budget over many tokens; the frozen rule is what these files do."
    ]
    first = facts.excluded_positions
    excluded = [f"the first {'position' if first == 1 else f'{first} positions'} of each context"] if first else []
    if facts.excluded_tokens:
        excluded.append(f"the tokens {', '.join(map(str, facts.excluded_tokens))}")
    if excluded:
        about.append(f"Neither trained nor measured on: {' and '.join(excluded)}.")
    if facts.rows_left_out:
        about.append(f"{facts.rows_left_out:,} rows with huge norms are left out of the figures.")
    return about


def _typed(kind: type[EvaluationFacts], content: dict[str, Any], file: Path) -> EvaluationFacts:
    try:
        return typed(kind, content)
    except WrongField as error:
        raise TornData(f"{file} is not an evaluation: {error}; evaluate again, or move it away") from None
