"""The figures of a study: fronts against L0, methods side by side, and error against learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from distsae.reporting.study.fronts import front_of
from distsae.reporting.study.measures import DEAD, L0, StudyMeasure
from distsae.reporting.study.results import CellResult
from distsae.reporting.style import COLOURS, INK, MUTED, Figure, drawing, look, to_svg, verbatim

__all__ = ["front_figure", "methods_figure", "rates_figure"]

_MARKERS = ("o", "s", "^", "D")


def front_figure(cells: Sequence[CellResult], methods: Sequence[str], measure: StudyMeasure, name: str) -> Figure:
    """Draws a figure against L0, a line for each method, with the Pareto front behind.

    Args:
        cells: cells of one width.
        methods: names of all methods of the study, whose places decide the colours.
        measure: the figure.
        name: name of the drawing, unique on the page.
    """
    front = front_of(cells, measure)
    with drawing() as (canvas, axes):
        points = [(L0.of(cell), measure.of(cell)) for cell in front]
        axes.plot(
            [cost.mean for cost, _ in points if cost],
            [value.mean for _, value in points if value],
            color=MUTED,
            linewidth=6,
            alpha=0.25,
            solid_joinstyle="round",
        )
        for index, method in enumerate(methods):
            style = look(index)
            own = [cell for cell in cells if cell.method == method]
            found = [(c, v, cell) for cell in own if (c := L0.of(cell)) and (v := measure.of(cell))]
            found.sort(key=lambda entry: entry[0].mean)
            if not found:
                continue
            axes.plot([x.mean for x, _, _ in found], [y.mean for _, y, _ in found], **style.line)
            for x, y, cell in found:
                axes.errorbar(
                    x.mean,
                    y.mean,
                    yerr=y.deviation,
                    fmt=_marker(index),
                    markersize=5.5,
                    color=style.colour,
                    markerfacecolor=style.colour if cell in front else "white",
                    elinewidth=1.4,
                )
        axes.set_xscale("log", base=2)
        _plain_ticks(axes, [cell.k for cell in cells if L0.of(cell)])
        if measure is DEAD:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
            axes.set_ylim(bottom=0)
        axes.set_xlabel("L0 of the frozen rule (log scale)")
        axes.set_ylabel("dead features" if measure is DEAD else measure.label)
        names = ", ".join(f"{cell.method} at k {cell.k}" for cell in front)
        svg = to_svg(canvas, name, f"{measure.label} against L0. On the Pareto front: {names or 'nothing yet'}.")
    direction = "Lower" if measure.better == "lower" else "Higher"
    return Figure(
        title=f"{'Dead features' if measure is DEAD else measure.label} against L0",
        reading=(
            f"{direction} and further left is better. Filled points are on the Pareto front, the broad line: no other "
            "cell is as good in both, where values of L0 within 3% count as equal. Vertical bars are standard "
            "deviations over seeds."
        ),
        svg=svg,
    )


def methods_figure(cells: Sequence[CellResult], methods: Sequence[str], measure: StudyMeasure, name: str) -> Figure:
    """Draws one figure of the cells of one width and k, a row for each method: seeds, mean and deviation."""
    summaries = []
    with drawing(height=0.9 + 0.3 * len(cells)) as (canvas, axes):
        for line, cell in enumerate(cells):
            index = methods.index(cell.method)
            estimate, colour = measure.of(cell), look(index).colour
            if estimate is None:
                continue
            spread = estimate.interval
            if estimate.deviation is not None:
                spread = estimate.mean - estimate.deviation, estimate.mean + estimate.deviation
            if spread is not None:
                axes.plot(spread, [line, line], color=colour, linewidth=2, solid_capstyle="butt")
            values = cell.values(*measure.keys)
            if len(values) > 1:
                axes.plot(values, [line] * len(values), linestyle="none", marker="|", markersize=9, color=colour)
            axes.plot([estimate.mean], [line], marker=_marker(index), markersize=6.5, color=colour)
            summaries.append(f"{cell.method} {measure.text(estimate)}")
        axes.set_yticks(range(len(cells)), [verbatim(_short(cell.method)) for cell in cells])
        axes.set_ylim(len(cells) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        if measure is DEAD:
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        svg = to_svg(canvas, name, f"{measure.label}: {'; '.join(summaries)}.")
    direction = "left" if measure.better == "lower" else "right"
    return Figure(
        title="Dead features" if measure is DEAD else measure.label,
        reading=(
            f"Further {direction} is better. Dots are means, ticks are seeds, lines standard deviations over seeds; of "
            "a single seed the line is the 95% interval over contexts."
        ),
        svg=svg,
    )


def rates_figure(cells: Sequence[CellResult], methods: Sequence[str], name: str) -> Figure:
    """Draws the held-out FVU of the cells of one width and k against the learning rate; the best ones are filled."""
    summaries = []
    with drawing() as (canvas, axes):
        sizes = []
        for cell in cells:
            index = methods.index(cell.method)
            style = look(index)
            measured = [(rate.size, rate.member.heldout_fvu, rate is cell.best) for rate in cell.rates]
            tried = sorted((size, error, best) for size, error, best in measured if size and error)
            if len(cell.rates) < 2 or not tried:
                continue
            sizes += [size for size, _, _ in tried]
            axes.plot([size for size, _, _ in tried], [error for _, error, _ in tried], **style.line)
            for size, error, best in tried:
                inside = style.colour if best else "white"
                axes.plot(size, error, _marker(index), markersize=5.5, color=style.colour, markerfacecolor=inside)
            if cell.best is not None and cell.best.size is not None:
                summaries.append(f"{cell.method} best at {cell.best.size:.2g}")
        axes.set_xscale("log")
        _plain_ticks(axes, sizes)
        axes.set_xlabel("learning rate (log scale)")
        axes.set_ylabel("held-out FVU, frozen rule")
        axes.plot([], [], linestyle="none", marker="o", color=INK, label="best of its method")
        axes.legend(loc="best", fontsize=8)
        svg = to_svg(canvas, name, f"Held-out FVU against learning rate. {'; '.join(summaries)}.")
    return Figure(
        title="Error against learning rate",
        reading=(
            "At the first seed. A method whose best rate is at an end of its line may be better beyond it: widen the "
            "list. Rates that diverged are missing."
        ),
        svg=svg,
    )


def _marker(index: int) -> str:
    """Returns the shape of a method's points: methods that share a colour, and differ in their dashes, differ in it."""
    return _MARKERS[index // COLOURS % len(_MARKERS)]


def _plain_ticks(axes: Any, values: Sequence[float]) -> None:  # noqa: ANN401  (matplotlib is untyped here)
    """Labels a logarithmic axis at the values themselves, unless they are too many."""
    ticks = sorted({float(f"{value:.2g}") for value in values})
    if 0 < len(ticks) <= 8:
        axes.set_xticks(ticks)
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _short(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:25]}…"
