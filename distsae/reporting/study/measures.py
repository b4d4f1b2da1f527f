"""The figures that a study compares: where they are in `evaluation.json`, and which direction is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from distsae.reporting.study.results import CellResult, OverSeeds
from distsae.reporting.wording import fixed, percent

__all__ = ["DEAD", "FVU", "L0", "LOSS_RECOVERED", "MEASURES", "StudyMeasure"]


@dataclass(frozen=True, kw_only=True)
class StudyMeasure:
    """One figure.

    Args:
        name: name in `table.json`.
        label: name in tables and figures.
        keys: dotted keys of `evaluation.json`; the first one that is there is taken.
        better: which direction is better; None if neither is.
        show: function that writes a value.
        note: what it means, in a few words.
    """

    name: str
    label: str
    keys: tuple[str, ...]
    better: Literal["lower", "higher"] | None = None
    show: Callable[[object], str] = fixed
    note: str = ""

    def of(self, cell: CellResult) -> OverSeeds | None:
        """Returns the figure of a cell; None if no member has it."""
        return cell.estimate(*self.keys)

    def text(self, estimate: OverSeeds | None) -> str:
        """Returns mean and deviation as text; a dash for a figure that is missing."""
        if estimate is None:
            return "–"
        if estimate.deviation is None:
            return self.show(estimate.mean)
        return f"{self.show(estimate.mean)} ± {self.show(estimate.deviation)}"


def _frozen(name: str) -> tuple[str, ...]:
    return (f"frozen_rule.{name}", name)


def _two_digits(value: object) -> str:
    return fixed(value, 2)


FVU = StudyMeasure(name="fvu", label="FVU", keys=_frozen("fvu"), better="lower", note="frozen rule")
LOSS_RECOVERED = StudyMeasure(
    name="loss_recovered_zero",
    label="Loss recovered",
    keys=_frozen("loss_recovered_zero"),
    better="higher",
    note="frozen rule, zero ablation",
)
L0 = StudyMeasure(name="l0", label="L0", keys=_frozen("l0"), show=_two_digits, note="frozen rule, matches per token")
DEAD = StudyMeasure(
    name="dead_share",
    label="Dead",
    keys=_frozen("dead_share"),
    better="lower",
    show=percent,
    note="features without a match on the evaluated text",
)

MEASURES: tuple[StudyMeasure, ...] = (
    FVU,
    StudyMeasure(name="fvu_training", label="FVU, training rule", keys=("fvu",), better="lower", note="in batches"),
    StudyMeasure(
        name="relative_error",
        label="Relative error",
        keys=_frozen("relative_error"),
        better="lower",
        note="mean over rows",
    ),
    StudyMeasure(name="cosine", label="Cosine", keys=_frozen("cosine"), better="higher", note="mean over rows"),
    StudyMeasure(
        name="fvu_unit_norm",
        label="FVU, unit norm",
        keys=_frozen("fvu_unit_norm"),
        better="lower",
        note="of rows brought to norm 1",
    ),
    LOSS_RECOVERED,
    StudyMeasure(name="kl", label="KL", keys=_frozen("kl"), better="lower", note="nats a token, spliced against clean"),
    L0,
    DEAD,
    StudyMeasure(
        name="underutilised_share",
        label="Underutilised",
        keys=_frozen("underutilised_share"),
        better="lower",
        show=percent,
        note="below a tenth of the Zipf fit, dead ones included",
    ),
    StudyMeasure(
        name="features_per_token_std",
        label="Features per token, spread",
        keys=_frozen("features_per_token_std"),
        show=_two_digits,
        note="standard deviation over tokens",
    ),
    StudyMeasure(
        name="rows_left_out",
        label="Rows left out",
        keys=_frozen("rows_left_out"),
        show=lambda value: fixed(value, 0),
        note="with norms over the limit",
    ),
)
"""All figures, in the order of the table's columns."""
