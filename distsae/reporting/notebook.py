"""The figures of a report on axes of one's own, for a notebook or a paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distsae.errors import WrongInput
from distsae.reporting.runs import ReportedRun, load_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot"]


def plot(runs: str | Path | Sequence[str | Path], figure: str = "fvu", axes: Axes | None = None) -> Axes:
    """Draws one figure of the report of some runs, and returns the axes it is on.

    Args:
        runs: folder of a run, or folders of several.
        figure: `density`, `features_per_token` or `error`, which need `distsae evaluate`; or a key of `metrics.jsonl`,
            such as `fvu`, `l0`, `dead_share` or `threshold`, which is drawn over the tokens of training.
        axes: matplotlib axes to draw on; None for new ones.

    Raises:
        WrongInput: a folder is no run, a run was not evaluated, or there is no such figure.
        TornData: a file of a run is damaged.
    """
    from distsae.reporting.curves import curve_on
    from distsae.reporting.distributions import density_on, error_on, features_per_token_on

    loaded = load_runs([runs] if isinstance(runs, str | Path) else runs)
    evaluated: dict[str, Callable[[Any, Sequence[ReportedRun]], str]] = {
        "density": density_on,
        "features_per_token": features_per_token_on,
        "error": error_on,
    }
    if figure in evaluated and (missing := [run.name for run in loaded if run.evaluation is None]):
        raise WrongInput(
            f"`figure` (={figure}) must be of evaluated runs; got {', '.join(missing)} without an evaluation; run "
            "`distsae evaluate` on each"
        )
    if axes is None:
        from matplotlib import pyplot

        _, axes = pyplot.subplots(figsize=(5.6, 3.3), layout="constrained")
    if figure in evaluated:
        evaluated[figure](axes, loaded)
    else:
        curve_on(axes, loaded, figure)
    if len(loaded) > 1 and axes.get_legend() is None:
        axes.legend()
    return axes
