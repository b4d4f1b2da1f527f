"""The table of results: what evaluation and training measured, and which run is best."""

from __future__ import annotations

from collections.abc import Sequence

from distsae.reporting.measures import RESULTS
from distsae.reporting.runs import ReportedRun, same_rows, same_text
from distsae.reporting.table import Cell, Row

__all__ = ["results"]


def results(runs: Sequence[ReportedRun]) -> list[Row]:
    """Returns the rows of results with their intervals; the best of several runs on the same rows is marked."""
    on_same_text, on_same_rows = same_text(runs), same_rows(runs)
    rows = []
    for measure in RESULTS:
        if not measure.shown(runs):
            continue
        comparable = on_same_text if measure.every_row else on_same_rows
        values = [measure.value(run) for run in runs]
        finite = [value for value in values if value is not None]
        if not finite:
            continue
        best = None
        if measure.better and comparable and len(finite) > 1 and len(set(finite)) > 1:
            best = min(finite) if measure.better == "lower" else max(finite)
        cells = tuple(
            Cell(text=measure.show(value), detail=measure.detail(run), best=best is not None and value == best)
            for run, value in zip(runs, values, strict=True)
        )
        rows.append(Row(label=measure.label, note=measure.note, cells=cells, group=measure.group))
    return rows
