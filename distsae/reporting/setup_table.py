"""The table of what was run: model, data, settings and size of each run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from distsae.model import ALLOCATION_TITLES
from distsae.reporting.runs import ReportedRun
from distsae.reporting.table import Cell, Row
from distsae.reporting.wording import amount, percent

__all__ = ["setup"]


def setup(runs: Sequence[ReportedRun]) -> list[Row]:
    """Returns the rows of settings; a row without a value in any run is left out."""
    rows = [Row(label=label, cells=tuple(Cell(text=show(run)) for run in runs)) for label, show in _SETUP]
    return [row for row in rows if any(cell.text not in ("", "–") for cell in row.cells)]


def _setting(key: str, show: Callable[[object], str] = str) -> Callable[[ReportedRun], str]:
    def find(run: ReportedRun) -> str:
        value = run.setting(key)
        return "–" if value is None else show(value)

    return find


def _first(*values: object) -> str:
    """Returns the first value that is there."""
    return next((str(value) for value in values if value not in (None, "")), "–")


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _allocation(run: ReportedRun) -> str:
    name = run.setting("allocation") or run.sae.get("allocation")
    text = ALLOCATION_TITLES.get(str(name), "–")
    share = run.setting("finetune_fc_from")
    if share is not None:
        text += f", then Feature Choice from {percent(float(share)).replace('.00', '')} of the steps"
    if "Feature Choice" in text and run.setting("quotas"):
        text += f" ({run.setting('quotas')} quotas)"
    return text


def _rate(run: ReportedRun) -> str:
    rate, logged = run.setting("optimizer.lr"), run.metrics.get("lr")
    if rate is None:
        return "–"
    if rate == "auto" and logged is not None and np.isfinite(logged).any():
        return f"auto, at most {np.nanmax(logged):.2g}"
    return str(rate)


def _mesh(run: ReportedRun) -> str:
    data, feature = run.setting("mesh.data"), run.setting("mesh.feature")
    return "–" if data is None or feature is None else f"{data} data × {feature} feature"


def _steps(run: ReportedRun) -> str:
    steps = run.metrics.get("step")
    planned = run.setting("steps")
    done = int(steps[-1]) if steps is not None and len(steps) else None
    if done is None:
        return "–" if planned is None else f"0 of {_count(planned)}"
    return _count(done) if planned in (None, done) else f"{_count(done)} logged of {_count(planned)}"


def _evaluated(run: ReportedRun) -> str:
    if run.evaluation is None:
        return "not evaluated"
    text = "held-out contexts" if run.measured("split") == "heldout" else str(run.measured("corpus"))
    text += f", {amount(run.measured('rows'))} token rows in {amount(run.measured('contexts'))} contexts"
    left_out = run.measured("rows_left_out")
    return f"{text}, {amount(left_out)} more left out" if left_out else text


_SETUP: tuple[tuple[str, Callable[[ReportedRun], str]], ...] = (
    ("Language model", lambda run: _first(run.store.get("model"), run.measured("model"), run.sae.get("model_name"))),
    ("Hook", lambda run: _first(run.setting("hook"), run.sae.get("hook_name"), run.measured("hook"))),
    ("Corpus", lambda run: _first(run.store.get("corpus"))),
    ("Training rows in the store", lambda run: amount(run.store.get("rows"))),
    ("Normalisation of activations", lambda run: _first(run.setting("normalise"), run.sae.get("normalise"))),
    ("Features, d_sae", _setting("sae.d_sae", _count)),
    ("Width of the activation, d_in", lambda run: _first(run.sae.get("d_in"), run.measured("d_in"))),
    ("Mean matches per token, k", _setting("sae.k")),
    ("Allocation", _allocation),
    ("Auxiliary loss", _setting("aux")),
    ("Learning rate", _rate),
    ("Batch, token rows", _setting("batch_tokens", _count)),
    ("Steps", _steps),
    ("Mesh", _mesh),
    ("Engine", _setting("engine")),
    ("Seed", _setting("seed")),
    ("Evaluated on", _evaluated),
    (
        "distsae version",
        lambda run: _first(run.sae.get("distsae_version"), run.measured("distsae_version")),
    ),
)
