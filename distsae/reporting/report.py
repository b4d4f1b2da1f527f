"""Makes a report from start to finish: reads the runs, draws the figures, lays out the page, writes one file."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distsae.durable import replace
from distsae.errors import WrongInput
from distsae.reporting.config import ReportConfig

if TYPE_CHECKING:
    from distsae.reporting.page import Section
    from distsae.reporting.runs import ReportedRun

__all__ = ["default_out", "report", "require_libraries"]


def report(config: ReportConfig) -> Path:
    """Writes the page and returns its path.

    Raises:
        WrongInput: a run is missing, `out` is a file, or matplotlib or jinja2 is not installed.
        TornData: a file of a run is damaged.
    """
    require_libraries("distsae report")
    from distsae.reporting.page import render
    from distsae.reporting.results_table import results
    from distsae.reporting.runs import load_runs
    from distsae.reporting.setup_table import setup

    folder = Path(config.out) if config.out is not None else default_out(config.runs)
    if folder.exists() and not folder.is_dir():
        raise WrongInput(f"`out` (={folder}) must be a folder; got a file; choose another `out`")
    runs = load_runs(config.runs)
    page = render(runs, setup(runs), results(runs), _sections(runs))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "index.html"
    replace(file, page.encode())
    return file


def default_out(runs: Sequence[str]) -> Path:
    """Returns the folder of the page: `RUN/report` for one run, `report` beside the first of several."""
    first = Path(runs[0])
    return first / "report" if len(runs) == 1 else first.resolve().parent / "report"


_COMPARISONS = (
    (
        "fvu",
        "FVU",
        "Further left is better. Lines are 95% intervals over contexts; where they overlap, the difference may be "
        "chance.",
    ),
    (
        "relative_error",
        "Relative error of a row",
        "Further left is better: the mean of ‖x − x̂‖ / ‖x‖, in which no row weighs more than another.",
    ),
    (
        "loss_recovered_zero",
        "Loss recovered (zero ablation)",
        "Further right is better: 1 means that the model loses nothing when it reads the reconstruction.",
    ),
    (
        "kl",
        "KL divergence from the clean model",
        "Further left is better: 0 means that the model predicts the same when it reads the reconstruction.",
    ),
)
"""Key of each number that is compared, title of its figure, and how to read it."""


def _sections(runs: Sequence[ReportedRun]) -> list[Section]:
    from distsae.reporting.adaptivity import adaptivity_figure
    from distsae.reporting.comparison import comparison_figure
    from distsae.reporting.curves import training_figures
    from distsae.reporting.distributions import density_figure, error_figure, features_per_token_figure
    from distsae.reporting.page import Section

    sections = []
    evaluated = [run for run in runs if run.evaluation is not None]
    if len(evaluated) > 1:
        figures = [
            comparison_figure(evaluated, key, title, reading)
            for key, title, reading in _COMPARISONS
            if any(run.measured(key) is not None for run in evaluated)
        ]
        sections.append(Section(title="Comparison", figures=figures))
    drawn = [run for run in evaluated if run.arrays]
    if drawn:
        figures = [draw(drawn) for draw in (density_figure, features_per_token_figure, adaptivity_figure, error_figure)]
        sections.append(
            Section(title="Use of the features", figures=figures, note="On the evaluated text, with the training rule.")
        )
    curves = training_figures(runs)
    if curves:
        note = "On the training batches; where many steps are logged, a point is the mean of neighbouring ones."
        if any(run.feature_choice_from is not None for run in runs):
            note += " A dotted vertical line marks the change from Mutual Choice to Feature Choice."
        sections.append(Section(title="Training", figures=curves, note=note))
    return sections


def require_libraries(command: str, names: Sequence[str] = ("matplotlib", "jinja2")) -> None:
    """Refuses a command that makes a page, unless the libraries `names` that it needs are installed.

    Raises:
        WrongInput: one of them is missing.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise WrongInput(f"`{command}` needs {' and '.join(missing)}; run: pip install 'distsae[report]'")
