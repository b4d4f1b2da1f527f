"""Training curves over tokens: one figure for each metric, with all runs in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, PercentFormatter

from distsae.errors import WrongInput, nearest
from distsae.reporting.runs import Array, ReportedRun
from distsae.reporting.style import Figure, drawing, look, to_svg, verbatim
from distsae.reporting.wording import fixed, percent

__all__ = ["curve_on", "thin", "training_figures"]

_POINTS = 250  # more could not be told apart in a column of the page


@dataclass(frozen=True, kw_only=True)
class _Curve:
    """A figure of one key of `metrics.jsonl` over tokens.

    Args:
        key: key of the metric.
        title: title of the figure.
        axis: label of the vertical axis.
        reading: sentence under the figure that tells how to read it.
        logarithmic: whether the vertical axis is logarithmic.
        share: whether the metric is a share, shown in per cent.
    """

    key: str
    title: str
    axis: str
    reading: str
    logarithmic: bool = False
    share: bool = False


_CURVES = (
    _Curve(
        key="fvu",
        title="FVU during training",
        axis="FVU of the batch (log scale)",
        reading="Lower is better: the share of the batch's variance that the reconstruction misses.",
        logarithmic=True,
    ),
    _Curve(
        key="aux_loss",
        title="Auxiliary loss",
        axis="auxiliary loss",
        reading=(
            "The share of the residual's energy that the underused features fail to explain: below 1 they learn; 0 "
            "means that no feature was underused."
        ),
    ),
    _Curve(
        key="l0",
        title="L0 during training",
        axis="features per token",
        reading="It should stay at k; where it lies below, a batch had fewer positive scores than its budget.",
    ),
    _Curve(
        key="dead_share",
        title="Dead features during training",
        axis="share of the features",
        reading="Features that have had no match for a long time; a flat line near zero means that all are in use.",
        share=True,
    ),
    _Curve(
        key="underutilised_share",
        title="Underutilised features during training",
        axis="share of the features",
        reading="Features far below the Zipf curve at their rank, dead ones included; aux_zipf trains these.",
        share=True,
    ),
    _Curve(
        key="zipf_residual",
        title="Distance from the Zipf curve",
        axis="nats, root mean square",
        reading="How far log densities lie from the fitted curve; 0.1 is about 10%. Feature Choice pulls it to 0.",
    ),
    _Curve(
        key="top_feature_share",
        title="Matches of the densest 1% of the features",
        axis="share of the matches",
        reading="A few features always fire often; a share that keeps climbing means that the dictionary collapses.",
        share=True,
    ),
    _Curve(
        key="token_overlap",
        title="Overlap of two tokens' features",
        axis="share of a token's features",
        reading="What two tokens of a batch share on average over all pairs; at 1 all tokens have the same features.",
        share=True,
    ),
    _Curve(
        key="threshold",
        title="Threshold",
        axis="score",
        reading=(
            "The running average of the smallest selected score, in units of the normalised activations. The frozen "
            "rule is made from it, so it should be flat at the end."
        ),
    ),
)


def training_figures(runs: Sequence[ReportedRun]) -> list[Figure]:
    """Draws each curve that at least one run has logged with a value other than zero."""
    figures = []
    for curve in _CURVES:
        if any(_is_worth_drawing(run, curve.key) for run in runs):
            figures.append(_draw(runs, curve))
    return figures


def thin(tokens: Array, values: Array, points: int = _POINTS) -> tuple[Array, Array]:
    """Returns a curve of at most `points` points, each the mean of neighbouring steps; missing values are skipped."""
    has_value = np.isfinite(tokens) & np.isfinite(values)
    tokens, values = tokens[has_value], values[has_value]
    if len(tokens) <= points:
        return tokens, values
    parts = np.array_split(np.arange(len(tokens)), points)
    return np.array([tokens[part].mean() for part in parts]), np.array([values[part].mean() for part in parts])


def _is_worth_drawing(run: ReportedRun, key: str) -> bool:
    values = run.metrics.get(key)
    return "tokens" in run.metrics and values is not None and bool(np.nan_to_num(values).any())


def curve_on(axes: Any, runs: Sequence[ReportedRun], key: str) -> str:  # noqa: ANN401 (matplotlib is untyped here)
    """Draws the curve of one key of `metrics.jsonl` on matplotlib axes, and returns a description of it.

    Raises:
        WrongInput: there is no such curve, or no run has logged the key.
    """
    curve = next((curve for curve in _CURVES if curve.key == key), None)
    if curve is None or not any("tokens" in run.metrics and key in run.metrics for run in runs):
        keys = [curve.key for curve in _CURVES]
        raise WrongInput(f"`figure` (={key}) must be logged by a run, and one of {', '.join(keys)}{nearest(key, keys)}")
    ends = []
    for run in runs:
        if curve.key not in run.metrics or "tokens" not in run.metrics:
            continue
        tokens, values = thin(run.metrics["tokens"], run.metrics[curve.key])
        if not len(tokens):
            continue
        marker = {"marker": "o", "markersize": 3} if len(tokens) == 1 else {}
        axes.plot(tokens, values, **look(run.column).line, **marker, label=verbatim(run.name))
        if run.feature_choice_from is not None:
            axes.axvline(run.feature_choice_from, color=look(run.column).colour, linewidth=0.9, linestyle=(0, (1, 2)))
        ends.append(f"{run.name} ends at {percent(values[-1]) if curve.share else fixed(values[-1], 3)}")
    if curve.logarithmic:
        _logarithmic(axes)
    else:
        axes.set_ylim(bottom=0)
    if curve.share:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    scale, word = _scale(max(float(run.metrics["tokens"][-1]) for run in runs if "tokens" in run.metrics))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / scale:g}"))
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{word}tokens trained")
    axes.set_ylabel(curve.axis)
    return f"{curve.title}, over tokens trained: {'; '.join(ends)}."


def _draw(runs: Sequence[ReportedRun], curve: _Curve) -> Figure:
    with drawing() as (canvas, axes):
        alt = curve_on(axes, runs, curve.key)
        svg = to_svg(canvas, f"curve-{curve.key}", alt)
    return Figure(title=curve.title, reading=curve.reading, svg=svg)


def _scale(most: float) -> tuple[float, str]:
    """Returns the divisor for the labels of an axis up to `most` tokens, and its word before `tokens`."""
    for scale, word in ((1e9, "billion "), (1e6, "million "), (1e3, "thousand ")):
        if most >= scale:
            return scale, word
    return 1.0, ""


def _logarithmic(axes: object) -> None:
    axes.set_yscale("log")  # type: ignore[attr-defined]  # matplotlib is untyped here
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_formatter(plain)  # type: ignore[attr-defined]
    low, high = axes.get_ylim()  # type: ignore[attr-defined]
    if high / low < 20:
        axes.yaxis.set_minor_formatter(plain)  # type: ignore[attr-defined]
        axes.tick_params(axis="y", which="minor", labelsize=7.5)  # type: ignore[attr-defined]
