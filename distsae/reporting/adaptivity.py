"""Which tokens get more features: difficult ones, rare ones, late ones, or only those of large activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distsae.evaluation.adaptivity import in_shares
from distsae.reporting.runs import ReportedRun
from distsae.reporting.style import Figure, look, panels, to_svg
from distsae.reporting.wording import fixed

__all__ = ["adaptivity_figure"]


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """One way to order the tokens.

    Args:
        array: array of `evaluation.npz` to order by.
        key: key of `features_per_token_correlations`.
        axis: label of the horizontal axis.
    """

    array: str
    key: str
    axis: str


_PANELS = (
    _Panel(array="difficulty", key="difficulty", axis="relative error with k features"),
    _Panel(array="token_loss", key="loss", axis="loss on the next token"),
    _Panel(array="token_frequency", key="frequency", axis="frequency of the token"),
    _Panel(array="position", key="position", axis="position in the context"),
    _Panel(array="norm", key="norm", axis="norm of the activation"),
)


def adaptivity_figure(runs: Sequence[ReportedRun]) -> Figure:
    """Draws mean and middle half of features per token by deciles of difficulty, loss, frequency, position, norm.

    A panel is drawn for what the runs have; runs evaluated by an older version have only some of it.
    """
    shown = [panel for panel in _PANELS if any(panel.array in run.arrays for run in runs)]
    with panels(len(shown), height=2.7 * -(-len(shown) // 2) + 0.3) as (canvas, all_axes):
        summaries = [_draw(axes, panel, runs) for axes, panel in zip(all_axes, shown, strict=True)]
        all_axes[0].set_ylim(bottom=0)  # of all, which share it; before all is drawn it would fix the top as well
        svg = to_svg(canvas, "adaptivity", f"Mean features per token by decile. {' '.join(summaries)}")
    return Figure(
        title="Which tokens get more features",
        reading=(
            "Each dot is the mean over a tenth of the tokens, lowest first; the band spans the middle half of them. A "
            "line that rises with the relative error means that tokens hard to reconstruct get more features. "
            "If it rises with the loss, tokens hard to continue do, unless the norm explains it."
            f"{_partial(runs)}"
        ),
        svg=svg,
    )


def _draw(axes: Any, panel: _Panel, runs: Sequence[ReportedRun]) -> str:  # noqa: ANN401 (matplotlib is untyped)
    """Draws one panel, and returns its alternative text."""
    ends = []
    for run in runs:
        if panel.array not in run.arrays:
            continue
        tenths = in_shares(run.arrays["features_per_token"], run.arrays[panel.array])
        number, style = np.arange(1, len(tenths.mean) + 1), look(run.column)
        axes.fill_between(number, tenths.low, tenths.high, color=style.colour, alpha=0.12, linewidth=0)
        axes.plot(number, tenths.mean, marker="o", markersize=3.5, **style.line)
        end = f"{run.name}: {fixed(tenths.mean[0], 1)} in the lowest tenth, {fixed(tenths.mean[-1], 1)} in the highest"
        correlation = run.measured(f"features_per_token_correlations.{panel.key}")
        ends.append(end if correlation is None else f"{end}, rank correlation {fixed(correlation, 2)}")
    axes.set_xticks(range(1, 11))
    axes.set_xlabel(f"decile by {panel.axis}")
    axes.grid(visible=False, axis="x")
    if axes.get_subplotspec().is_first_col():
        axes.set_ylabel("features per token")
    return f"By {panel.axis}: {'; '.join(ends)}."


def _partial(runs: Sequence[ReportedRun]) -> str:
    """Returns a sentence with the rank correlation with the loss, the norm taken out, of each run that has it."""
    key = "features_per_token_correlations.loss_given_norm"
    found = {run.name: run.measured(key) for run in runs if run.measured(key) is not None}
    if not found:
        return ""
    if len(runs) == 1:
        values = fixed(next(iter(found.values())), 2)
    else:
        values = ", ".join(f"{fixed(value, 2)} ({name})" for name, value in found.items())
    return f" With the norm taken out, the rank correlation with the loss is {values}."
