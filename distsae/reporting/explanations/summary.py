"""Mean scores over the explained features, with intervals that resample the features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from distsae.evaluation.bootstrap import Bootstrap
from distsae.reporting.explanations.result_folder import FeatureResult
from distsae.reporting.explanations.scores import JudgementCounts

__all__ = ["summary_lines", "summary_of"]

_SCORES = ("detection", "fuzzing")
_MEASURES = ("balanced_accuracy", "f1")


def summary_of(
    results: Iterable[FeatureResult], left_out: Mapping[str, int], settings: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Returns the summary as JSON values.

    Args:
        results: results of the features, in any order.
        left_out: number of features that were not explained, by reason.
        settings: settings that decide what the results are.
        seed: seed of the resamples.
    """
    done = sorted(results, key=lambda result: result.feature)
    return {
        "settings": dict(settings),
        "features": len(done),
        "explained": sum(result.explanation is not None for result in done),
        "without_explanation": sum(result.explanation is None for result in done),
        "problems": sum(result.problem is not None for result in done),
        "left_out": dict(left_out),
        **{name: _score([getattr(result, name) for result in done], seed) for name in _SCORES},
        "other_firing": sum(result.other_firing for result in done),
    }


def _score(counts: list[JudgementCounts], seed: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for measure in _MEASURES:
        known = [value for count in counts if (value := getattr(count, measure)) is not None]
        made[measure] = made[f"{measure}_ci95"] = None
        made[f"{measure}_features"] = len(known)
        if known:
            sums = {"value": np.asarray(known, np.float64), "one": np.ones(len(known))}
            estimate = Bootstrap(len(known), seed).estimate(lambda drawn: drawn["value"] / drawn["one"], sums)
            made[measure] = estimate.value
            if np.isfinite(estimate.low):
                made[f"{measure}_ci95"] = [estimate.low, estimate.high]
    for name in JudgementCounts.__dataclass_fields__:
        made[name] = sum(getattr(count, name) for count in counts)
    return made


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """Returns the summary as lines of a table."""
    lines = [f"{'':<12} {'balanced accuracy':<26} {'F1':<26} {'judged':>8} {'unparsed':>9}"]
    for name in _SCORES:
        score = summary[name]
        judged = sum(score[part] for part in JudgementCounts.__dataclass_fields__) - score["unparsed"]
        shown = [_with_interval(score[measure], score[f"{measure}_ci95"]) for measure in _MEASURES]
        lines.append(f"{name:<12} {shown[0]:<26} {shown[1]:<26} {judged:>8,} {score['unparsed']:>9,}")
    lines.append(f"{summary['explained']:,} of {summary['features']:,} features have an explanation")
    wrong = summary["detection"]["true_negatives"] + summary["detection"]["false_positives"]
    checked = summary["settings"].get("checked_on_store", False)
    if wrong and not checked:
        lines.append(
            f"of {wrong:,} non-activating contexts the features may fire in {summary['other_firing']:.1f}, "
            "by their densities"
        )
    elif wrong:
        lines.append(f"of {wrong:,} non-activating contexts the features fire in none, by the store")
    if summary["problems"]:
        lines.append(f"{summary['problems']:,} features had a problem, which is in their lines")
    lines += [f"{count:,} features were left out: {reason}" for reason, count in summary["left_out"].items()]
    return lines


def _with_interval(value: float | None, interval: list[float] | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if interval is None else f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"
