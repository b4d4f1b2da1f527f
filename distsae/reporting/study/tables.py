"""The table of a study as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distsae.reporting.study.fronts import FRONTS, front_of
from distsae.reporting.study.measures import MEASURES, StudyMeasure
from distsae.reporting.study.results import CellResult, MemberResult, RateResult, StudyResult

__all__ = ["CHOICE", "as_json", "as_markdown", "rate_text", "shown_measures"]

CHOICE = (
    "The learning rate of a line is the one with the smallest FVU of the frozen rule on held-out rows at the end of "
    "training, tried at the first seed."
)
"""How a learning rate is chosen."""


def as_json(result: StudyResult) -> dict[str, Any]:
    """Returns all of a study as JSON values: cells with means and deviations, fronts, and every member."""
    fronts = [
        {"d_sae": width, "figure": measure.name, "against": "l0", "cells": [cell.name for cell in front]}
        for width in result.widths
        for measure in FRONTS
        if (front := front_of([cell for cell in result.cells if cell.d_sae == width], measure))
    ]
    return {
        "name": result.name,
        "facts": result.facts,
        "choice_of_learning_rate": CHOICE,
        "cells": [_cell(cell) for cell in result.cells],
        "fronts": fronts,
        "members": [_member(member) for member in result.members],
    }


def as_markdown(result: StudyResult) -> str:
    """Returns the table as Markdown, with a line for each cell, and under it what went wrong."""
    measures = shown_measures(result.cells)
    head = ["method", "d_sae", "k", "lr", "seeds", *(measure.label for measure in measures), "notes"]
    rows = [head, ["---"] * len(head)]
    for cell in result.cells:
        finished = sum(member.state == "finished" for member in cell.members)
        values = [measure.text(measure.of(cell)) for measure in measures]
        rows.append(
            [cell.method, str(cell.d_sae), str(cell.k), rate_text(cell), str(finished), *values, "; ".join(cell.notes)]
        )
    lines = [f"# {result.name}", ""]
    lines += [f"- {label}: {text}" for label, text in result.facts.items()]
    lines += ["", "Mean ± standard deviation over seeds. " + CHOICE, ""]
    lines += ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
    failures = [member for member in result.members if member.reason]
    if failures:
        lines += ["", "Members without a result:", ""]
        lines += [f"- {member.path}: {member.state}: {member.reason}" for member in failures]
    return "\n".join(lines) + "\n"


def shown_measures(cells: Sequence[CellResult]) -> list[StudyMeasure]:
    """Returns the figures that at least one cell has."""
    return [measure for measure in MEASURES if any(measure.of(cell) is not None for cell in cells)]


def rate_text(cell: CellResult) -> str:
    """Returns the best learning rate of a cell as text; `auto` with its number."""
    if cell.best is None:
        return "–"
    if cell.best.rate == "auto" and cell.best.size is not None:
        return f"auto ({cell.best.size:.2g})"
    return f"{cell.best.rate:g}" if isinstance(cell.best.rate, float) else str(cell.best.rate)


def _cell(cell: CellResult) -> dict[str, Any]:
    figures = {}
    for measure in MEASURES:
        estimate = measure.of(cell)
        if estimate is not None:
            figures[measure.name] = {
                "mean": estimate.mean,
                "deviation": estimate.deviation,
                "seeds": estimate.seeds,
                "ci95": None if estimate.interval is None else list(estimate.interval),
            }
    return {
        "method": cell.method,
        "d_sae": cell.d_sae,
        "k": cell.k,
        "lr": None if cell.best is None else cell.best.rate,
        "best_at_edge": cell.edge or None,
        "rates": [_rate(rate) for rate in cell.rates],
        "members": [member.path for member in cell.members],
        "figures": figures,
        "notes": list(cell.notes),
    }


def _rate(rate: RateResult) -> dict[str, Any]:
    return {
        "lr": rate.rate,
        "size": rate.size,
        "heldout_fvu": rate.member.heldout_fvu,
        "state": rate.member.state,
        "member": rate.member.path,
    }


def _member(member: MemberResult) -> dict[str, Any]:
    return {
        "path": member.path,
        "seed": member.seed,
        "state": member.state,
        "reason": member.reason or None,
        "heldout_fvu": member.heldout_fvu,
        "evaluation": member.evaluation,
    }
