"""How matches and errors are spread: density against rank, features per token, and the error against the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter

from distsae.evaluation.adaptivity import in_shares
from distsae.reporting.runs import ReportedRun
from distsae.reporting.style import INK, Figure, drawing, look, to_svg
from distsae.reporting.wording import fixed, percent

__all__ = [
    "density_figure",
    "density_on",
    "error_figure",
    "error_on",
    "features_per_token_figure",
    "features_per_token_on",
]

_RANKS = 300
"""Most ranks that a line is drawn through, so that a wide dictionary does not make a large page."""


def density_on(axes: Any, runs: Sequence[ReportedRun]) -> str:  # noqa: ANN401 (matplotlib is untyped here)
    """Draws density against rank on logarithmic axes, with each run's Zipf fit, and returns a description."""
    summaries = []
    for run in runs:
        density = np.sort(run.arrays["density"])[::-1]
        alive = int((density > 0).sum())
        summaries.append(f"{run.name}: {percent(1 - alive / len(density))} of {len(density):,} features dead")
        if alive == 0:
            continue
        axes.set_xscale("log")
        axes.set_yscale("log")
        ranks = np.unique(np.geomspace(1, alive, _RANKS).round().astype(int))
        axes.plot(ranks, density[ranks - 1], **look(run.column).line)
        if "zipf_predicted" in run.arrays:
            every = np.unique(np.geomspace(1, len(density), _RANKS).round().astype(int))
            predicted = run.arrays["zipf_predicted"][every - 1]
            axes.plot(every, predicted, color=look(run.column).colour, linestyle=(0, (1, 2)), linewidth=1.2)
            summaries[-1] += f", Zipf exponent {fixed(run.measured('zipf_s'), 2)}"
    axes.plot([], [], color=INK, label="measured")
    axes.plot([], [], color=INK, linestyle=(0, (1, 2)), linewidth=1.2, label="Zipf fit")
    axes.legend(loc="lower left", fontsize=8)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("rank of the feature, densest first")
    axes.set_ylabel("density (matches per token)")
    return f"Feature density against rank on logarithmic axes. {'; '.join(summaries)}."


def density_figure(runs: Sequence[ReportedRun]) -> Figure:
    """Draws density against rank on logarithmic axes, with each run's Zipf fit."""
    with drawing() as (canvas, axes):
        alt = density_on(axes, runs)
        svg = to_svg(canvas, "density", alt)
    return Figure(
        title="Feature density against rank",
        reading=(
            "All features, densest first. A line that follows its dotted Zipf fit means that the dictionary is fully "
            "used; a drop below the fit at the right end shows features that rarely or never fire."
        ),
        svg=svg,
    )


def features_per_token_on(axes: Any, runs: Sequence[ReportedRun]) -> str:  # noqa: ANN401
    """Draws the histogram of features per token on matplotlib axes, and returns a description."""
    summaries = []
    counts = [run.arrays["features_per_token"] for run in runs]
    top = max(int(np.percentile(found, 99.9)) for found in counts)
    width = max(1, -(-(top + 1) // 60))
    edges = np.arange(0, top + 1 + width, width) - 0.5
    for run, found in zip(runs, counts, strict=True):
        style = look(run.column)
        summaries.append(f"{run.name}: mean {fixed(found.mean(), 1)}, standard deviation {fixed(found.std(), 1)}")
        if np.ptp(found) == 0:
            # A bar of 100% would flatten the histograms of all other runs.
            axes.axvline(found[0], **style.line)
            continue
        share = np.histogram(found, edges)[0] / len(found)
        axes.stairs(share, edges, color=style.colour, linestyle=style.line["linestyle"], linewidth=1.6, zorder=3)
        axes.stairs(share, edges, color=style.colour, alpha=0.13, fill=True)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
    axes.set_xlim(left=-0.5)
    axes.set_xlabel("features per token" + (f" (bars of {width})" if width > 1 else ""))
    axes.set_ylabel("share of the tokens")
    return f"Histogram of features per token. {'; '.join(summaries)}."


def features_per_token_figure(runs: Sequence[ReportedRun]) -> Figure:
    """Draws the histogram of features per token."""
    with drawing() as (canvas, axes):
        alt = features_per_token_on(axes, runs)
        svg = to_svg(canvas, "features-per-token", alt)
    return Figure(
        title="Features per token",
        reading=(
            "How many features a token gets: the wider the hill, the more the numbers differ between tokens; a "
            "vertical line is a run that gives every token the same number, as Token Choice does."
        ),
        svg=svg,
    )


def error_on(axes: Any, runs: Sequence[ReportedRun]) -> str:  # noqa: ANN401 (matplotlib is untyped here)
    """Draws the squared error by decile of the loss of the next token, and returns a description."""
    summaries = []
    for run in runs:
        error = run.arrays["squared_error"].astype(np.float64) / (run.measured("variance") or np.nan)
        tenths = in_shares(error, run.arrays["token_loss"])
        axes.plot(np.arange(1, len(tenths.mean) + 1), tenths.mean, marker="o", markersize=4, **look(run.column).line)
        summaries.append(
            f"{run.name}: {fixed(tenths.mean[0], 3)} on the easiest, {fixed(tenths.mean[-1], 3)} on the hardest"
        )
    axes.set_ylim(bottom=0)
    axes.set_xticks(range(1, 11))
    axes.set_xlabel("decile of the tokens by the model's loss on the next token, easiest first")
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("squared error / variance")
    return f"Mean squared error over the variance, by decile of loss. {'; '.join(summaries)}."


def error_figure(runs: Sequence[ReportedRun]) -> Figure:
    """Draws the squared error, as a share of the mean variance, by decile of the loss of the next token."""
    with drawing() as (canvas, axes):
        alt = error_on(axes, runs)
        svg = to_svg(canvas, "error", alt)
    return Figure(
        title="Reconstruction error against the loss",
        reading=(
            "Each dot is the mean over a tenth of the tokens, and the mean of the dots is close to the FVU. A flat "
            "line means that easy and hard tokens are reconstructed equally well."
        ),
        svg=svg,
    )
