"""The table of results: what evaluation and training measured, and which run is best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from distsae.reporting.runs import ReportedRun, same_text
from distsae.reporting.table import Cell, Row
from distsae.reporting.wording import amount, duration, fixed, percent, signed

__all__ = ["results"]


def results(runs: Sequence[ReportedRun]) -> list[Row]:
    """Returns the rows of results with their intervals; the best of several runs on the same text is marked."""
    comparable = same_text(runs)
    rows = []
    for measure in _RESULTS:
        values = [measure.value(run) for run in runs]
        finite = [value for value in values if value is not None]
        if not finite:
            continue
        best = None
        if measure.better and comparable and len(finite) > 1 and len(set(finite)) > 1:
            best = min(finite) if measure.better == "lower" else max(finite)
        cells = tuple(
            Cell(text=measure.show(value), detail=measure.detail(run), best=best is not None and value == best)
            for run, value in zip(runs, values, strict=True)
        )
        rows.append(Row(label=measure.label, note=measure.note, cells=cells, group=measure.group))
    return rows


@dataclass(frozen=True, kw_only=True)
class _Measure:
    """How one number is found, shown and compared.

    Args:
        label: name of the number.
        value: function that finds it in a run; None if the run does not have it.
        show: function that writes it.
        note: what it means, in a few words.
        better: `lower` or `higher`; empty if neither is better.
        detail: function that writes the line under it, such as an interval.
        group: heading of the group of rows that this one starts; empty if it starts none.
    """

    label: str
    value: Callable[[ReportedRun], float | None]
    show: Callable[[object], str] = fixed
    note: str = ""
    better: str = ""
    detail: Callable[[ReportedRun], str] = lambda run: ""
    group: str = ""


def _measured(key: str) -> Callable[[ReportedRun], float | None]:
    return lambda run: run.measured(key)


def _interval(key: str, digits: int = 4) -> Callable[[ReportedRun], str]:
    def show(run: ReportedRun) -> str:
        interval = run.measured(f"{key}_ci95")
        if not interval or None in interval:
            return ""
        return f"{fixed(interval[0], digits)} to {fixed(interval[1], digits)}"

    return show


def _gap(name: str, digits: int) -> Callable[[ReportedRun], str]:
    def show(run: ReportedRun) -> str:
        gap = run.measured(f"frozen_rule.{name}_gap")
        return "" if gap is None else f"{signed(gap, digits)} against the training rule"

    return show


def _two_digits(value: object) -> str:
    return fixed(value, 2)


def _last(key: str) -> Callable[[ReportedRun], float | None]:
    def find(run: ReportedRun) -> float | None:
        values = run.metrics.get(key)
        return float(values[-1]) if values is not None and len(values) else None

    return find


def _speed(run: ReportedRun) -> float | None:
    values = run.metrics.get("tokens_per_second")
    if values is None or not np.isfinite(values).any():
        return None
    return float(np.nanmedian(values))


_RESULTS = (
    _Measure(
        label="FVU",
        note="share of the variance that the reconstruction misses",
        value=_measured("fvu"),
        detail=_interval("fvu"),
        better="lower",
        group="Fidelity",
    ),
    _Measure(
        label="NMSE",
        note="squared error over squared norm",
        value=_measured("nmse"),
        detail=_interval("nmse"),
        better="lower",
    ),
    _Measure(
        label="Loss recovered, zero ablation",
        note="1: the model loses nothing; 0: no better than zeros",
        value=_measured("loss_recovered_zero"),
        detail=_interval("loss_recovered_zero"),
        better="higher",
    ),
    _Measure(
        label="Loss recovered, mean ablation",
        note="0: no better than the mean activation",
        value=_measured("loss_recovered_mean"),
        detail=_interval("loss_recovered_mean"),
        better="higher",
    ),
    _Measure(
        label="Cross-entropy, spliced",
        note="nats a token, with the reconstruction in place",
        value=_measured("ce_spliced"),
        detail=_interval("ce_spliced"),
        better="lower",
    ),
    _Measure(label="Cross-entropy, clean", note="the model as it is", value=_measured("ce_clean")),
    _Measure(
        label="L0",
        note="features per token, mean",
        value=_measured("l0"),
        show=_two_digits,
        detail=_interval("l0", 2),
        group="Use of the features",
    ),
    _Measure(
        label="Features per token, spread",
        note="standard deviation over tokens",
        value=_measured("features_per_token_std"),
        show=_two_digits,
        detail=_interval("features_per_token_std", 2),
    ),
    _Measure(
        label="Dead features",
        note="no match on the evaluated text",
        value=_measured("dead_share"),
        show=percent,
        better="lower",
    ),
    _Measure(
        label="Underutilised features",
        note="below a tenth of the Zipf fit at their rank, dead ones included",
        value=_measured("underutilised_share"),
        show=percent,
        better="lower",
    ),
    _Measure(
        label="Zipf exponent s",
        note="slope of density against rank",
        value=_measured("zipf_s"),
        show=_two_digits,
        detail=lambda run: "" if run.measured("zipf_q") is None else f"offset q {fixed(run.measured('zipf_q'), 1)}",
    ),
    _Measure(
        label="L0, frozen rule",
        note="fixed thresholds, as deployed",
        value=_measured("frozen_rule.l0"),
        show=_two_digits,
        detail=_gap("l0", 2),
        group="Frozen rule",
    ),
    _Measure(label="FVU, frozen rule", value=_measured("frozen_rule.fvu"), detail=_gap("fvu", 4), better="lower"),
    _Measure(
        label="Loss recovered (zero), frozen rule",
        value=_measured("frozen_rule.loss_recovered_zero"),
        detail=_gap("loss_recovered_zero", 4),
        better="higher",
    ),
    _Measure(
        label="Loss recovered (zero), all positions",
        note="frozen rule, first positions spliced as well",
        value=_measured("all_positions.loss_recovered_zero"),
        detail=_interval("all_positions.loss_recovered_zero"),
        better="higher",
    ),
    _Measure(
        label="Tokens trained",
        value=_last("tokens"),
        show=amount,
        group="Training",
    ),
    _Measure(label="FVU of the last logged batch", value=_last("fvu")),
    _Measure(label="Tokens per second", note="median over logged steps", value=_speed, show=amount),
    _Measure(label="Training time", value=_last("seconds"), show=duration),
)
