"""Figures that set one headline number of several runs side by side, with its intervals."""

from __future__ import annotations

from collections.abc import Sequence

from distsae.reporting.runs import ReportedRun
from distsae.reporting.style import INK, Figure, drawing, look, to_svg, verbatim
from distsae.reporting.wording import fixed

__all__ = ["comparison_figure"]


def comparison_figure(runs: Sequence[ReportedRun], key: str, title: str, reading: str) -> Figure:
    """Draws one number of `evaluation.json`, a line for each run: the training rule as a dot, the frozen one hollow.

    Args:
        runs: evaluated runs.
        key: key of the number, which both rules must have, such as `fvu`.
        title: title of the figure.
        reading: sentence under the figure that tells how to read it.
    """
    summaries = []
    with drawing(height=0.9 + 0.42 * len(runs)) as (canvas, axes):
        for line, run in enumerate(runs):
            colour = look(run.column).colour
            frozen_marker = {"marker": "o", "markersize": 7, "markerfacecolor": "white", "markeredgecolor": colour}
            for prefix, offset, marker in (
                ("", -0.13, {"marker": "o", "markersize": 7, "markerfacecolor": colour, "markeredgecolor": colour}),
                ("frozen_rule.", 0.13, frozen_marker),
            ):
                value, interval = run.measured(prefix + key), run.measured(f"{prefix}{key}_ci95")
                if value is None:
                    continue
                if interval and None not in interval:
                    axes.plot(interval, [line + offset] * 2, color=colour, linewidth=2, solid_capstyle="butt")
                axes.plot([value], [line + offset], linestyle="none", **marker)
            frozen = run.measured(f"frozen_rule.{key}")
            summaries.append(f"{run.name} {fixed(run.measured(key))}, frozen {fixed(frozen)}")
        axes.set_yticks(range(len(runs)), [verbatim(_short(run.name)) for run in runs])
        axes.set_ylim(len(runs) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.plot([], [], linestyle="none", marker="o", color=INK, label="training rule")
        axes.plot([], [], linestyle="none", marker="o", markerfacecolor="white", color=INK, label="frozen rule")
        canvas.legend(loc="outside upper right", ncols=2, fontsize=8, handletextpad=0.1, columnspacing=1.2)
        svg = to_svg(canvas, f"comparison-{key}", f"{title}: {'; '.join(summaries)}.")
    return Figure(title=title, reading=reading, svg=svg)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"…{name[-23:]}"
