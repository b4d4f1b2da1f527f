"""The numbers of the table of results: where each is found, how it is written, and which direction is better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from distsae.reporting.runs import ReportedRun
from distsae.reporting.wording import amount, duration, fixed, percent, signed

__all__ = ["RESULTS", "Measure"]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How one number is found, shown and compared.

    Args:
        label: name of the number.
        value: function that finds it in a run; None if the run does not have it.
        show: function that writes it.
        note: what it means, in a few words.
        better: `lower` or `higher`; empty if neither is better.
        detail: function that writes the line under it, such as an interval.
        group: heading of the group of rows that this one starts; empty if it starts none.
        every_row: whether rows over the SAE's `max_norm` count too, so that runs with other limits can be compared.
        shown: function that tells whether it is of interest for these runs.
    """

    label: str
    value: Callable[[ReportedRun], float | None]
    show: Callable[[object], str] = fixed
    note: str = ""
    better: str = ""
    detail: Callable[[ReportedRun], str] = lambda run: ""
    group: str = ""
    every_row: bool = False
    shown: Callable[[Sequence[ReportedRun]], bool] = lambda runs: True


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


def _some_left_out(runs: Sequence[ReportedRun]) -> bool:
    return any(run.measured("rows_left_out") for run in runs)


def _some_have_a_limit(runs: Sequence[ReportedRun]) -> bool:
    return any(run.measured("max_norm") is not None for run in runs)


def _left_out(run: ReportedRun) -> str:
    limit, rows = run.measured("max_norm"), run.measured("rows_left_out")
    if limit is None or rows is None:
        return ""
    return f"{amount(rows)} with a norm over {amount(limit) if limit >= 100 else f'{limit:.3g}'}"


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


RESULTS = (
    Measure(
        label="FVU",
        note="share of the variance that the reconstruction misses",
        value=_measured("fvu"),
        detail=_interval("fvu"),
        better="lower",
        group="Fidelity",
    ),
    Measure(
        label="NMSE",
        note="squared error over squared norm",
        value=_measured("nmse"),
        detail=_interval("nmse"),
        better="lower",
    ),
    Measure(
        label="Relative error",
        note="mean of ‖x − x̂‖ / ‖x‖: every row weighs the same",
        value=_measured("relative_error"),
        detail=_interval("relative_error"),
        better="lower",
    ),
    Measure(
        label="FVU of rows of unit norm",
        note="x and x̂ divided by ‖x‖",
        value=_measured("fvu_unit_norm"),
        detail=_interval("fvu_unit_norm"),
        better="lower",
    ),
    Measure(
        label="Cosine",
        note="of x and x̂, mean over rows",
        value=_measured("cosine"),
        detail=_interval("cosine"),
        better="higher",
    ),
    Measure(
        label="Loss recovered, zero ablation",
        note="1: the model loses nothing; 0: no better than zeros",
        value=_measured("loss_recovered_zero"),
        detail=_interval("loss_recovered_zero"),
        better="higher",
    ),
    Measure(
        label="Loss recovered, mean ablation",
        note="0: no better than the mean activation",
        value=_measured("loss_recovered_mean"),
        detail=_interval("loss_recovered_mean"),
        better="higher",
    ),
    Measure(
        label="Cross-entropy, spliced",
        note="nats a token, with the reconstruction in place",
        value=_measured("ce_spliced"),
        detail=_interval("ce_spliced"),
        better="lower",
    ),
    Measure(label="Cross-entropy, clean", note="the model as it is", value=_measured("ce_clean")),
    Measure(
        label="KL divergence",
        note="nats a token, of the spliced model's predictions from the clean model's",
        value=_measured("kl"),
        detail=_interval("kl"),
        better="lower",
    ),
    Measure(
        label="L0",
        note="features per token, mean",
        value=_measured("l0"),
        show=_two_digits,
        detail=_interval("l0", 2),
        group="Use of the features",
    ),
    Measure(
        label="Features per token, spread",
        note="standard deviation over tokens",
        value=_measured("features_per_token_std"),
        show=_two_digits,
        detail=_interval("features_per_token_std", 2),
    ),
    Measure(
        label="Dead features",
        note="no match on the evaluated text",
        value=_measured("dead_share"),
        show=percent,
        better="lower",
    ),
    Measure(
        label="Underutilised features",
        note="below a tenth of the Zipf fit at their rank, dead ones included",
        value=_measured("underutilised_share"),
        show=percent,
        better="lower",
    ),
    Measure(
        label="Zipf exponent s",
        note="slope of density against rank",
        value=_measured("zipf_s"),
        show=_two_digits,
        detail=lambda run: "" if run.measured("zipf_q") is None else f"offset q {fixed(run.measured('zipf_q'), 1)}",
    ),
    Measure(
        label="L0, frozen rule",
        note="fixed thresholds, as deployed",
        value=_measured("frozen_rule.l0"),
        show=_two_digits,
        detail=_gap("l0", 2),
        group="Frozen rule",
    ),
    Measure(label="FVU, frozen rule", value=_measured("frozen_rule.fvu"), detail=_gap("fvu", 4), better="lower"),
    Measure(
        label="Relative error, frozen rule",
        value=_measured("frozen_rule.relative_error"),
        detail=_interval("frozen_rule.relative_error"),
        better="lower",
    ),
    Measure(
        label="Loss recovered (zero), frozen rule",
        value=_measured("frozen_rule.loss_recovered_zero"),
        detail=_gap("loss_recovered_zero", 4),
        better="higher",
    ),
    Measure(
        label="Loss recovered (zero), all positions",
        note="frozen rule, first positions and rows left out spliced as well",
        value=_measured("all_positions.loss_recovered_zero"),
        detail=_interval("all_positions.loss_recovered_zero"),
        better="higher",
        every_row=True,
    ),
    Measure(
        label="Rows left out",
        note="neither spliced nor counted above, since their norm is over the limit of training",
        value=_measured("left_out_share"),
        show=percent,
        detail=_left_out,
        group="Rows left out",
        shown=_some_have_a_limit,
    ),
    Measure(
        label="FVU with them",
        note="frozen rule, every row spliced and counted",
        value=_measured("with_left_out_rows.fvu"),
        detail=_interval("with_left_out_rows.fvu"),
        better="lower",
        every_row=True,
        shown=_some_left_out,
    ),
    Measure(
        label="Relative error with them",
        value=_measured("with_left_out_rows.relative_error"),
        detail=_interval("with_left_out_rows.relative_error"),
        better="lower",
        every_row=True,
        shown=_some_left_out,
    ),
    Measure(
        label="Loss recovered (zero) with them",
        value=_measured("with_left_out_rows.loss_recovered_zero"),
        detail=_interval("with_left_out_rows.loss_recovered_zero"),
        better="higher",
        every_row=True,
        shown=_some_left_out,
    ),
    Measure(
        label="Tokens trained",
        value=_last("tokens"),
        show=amount,
        group="Training",
    ),
    Measure(label="FVU of the last logged batch", value=_last("fvu")),
    Measure(label="Tokens per second", note="median over logged steps", value=_speed, show=amount),
    Measure(label="Training time", value=_last("seconds"), show=duration),
)
