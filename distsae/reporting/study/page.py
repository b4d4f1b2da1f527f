"""The page of a study: one HTML file that works without a network, scripts or other files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from distsae import __version__
from distsae.durable import replace
from distsae.nested_keys import at_key
from distsae.reporting.page import Section
from distsae.reporting.study.figures import front_figure, methods_figure, rates_figure
from distsae.reporting.study.fronts import FRONTS
from distsae.reporting.study.measures import StudyMeasure
from distsae.reporting.study.results import CellResult, StudyResult
from distsae.reporting.study.tables import CHOICE, rate_text, shown_measures
from distsae.reporting.style import look

__all__ = ["study_page", "write_page"]


def write_page(result: StudyResult, folder: Path) -> Path:
    """Writes the page of a study into a folder and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "index.html"
    replace(file, study_page(result).encode())
    return file


def study_page(result: StudyResult) -> str:
    """Returns the HTML of the page."""
    environment = Environment(
        loader=PackageLoader("distsae.reporting"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["drawing"] = Markup  # drawings are our own markup, not text of the user
    measures = shown_measures(result.cells)
    texts = {at_key(m.evaluation, "text_digest") for m in result.members if m.evaluation is not None}
    return environment.get_template("study.html.jinja").render(
        name=result.name,
        keys=[_key(method, index) for index, method in enumerate(result.methods)],
        facts=result.facts,
        measures=measures,
        groups=[_group(cells, result.methods, measures) for cells in _by_size(result.cells)],
        failures=[member for member in result.members if member.reason],
        waiting=sum(member.state == "waiting" for member in result.members),
        comparable=len(texts) <= 1,
        sections=_sections(result),
        choice=CHOICE,
        version=__version__,
    )


def _key(method: str, index: int) -> dict[str, str]:
    style = look(index)
    return {"name": method, "colour": style.colour, "dash": " ".join(f"{part:g}" for part in style.dash)}


def _by_size(cells: Sequence[CellResult]) -> list[list[CellResult]]:
    """Returns the cells of each width and k, the smallest first."""
    sizes = sorted({(cell.d_sae, cell.k) for cell in cells})
    return [[cell for cell in cells if (cell.d_sae, cell.k) == size] for size in sizes]


def _group(cells: Sequence[CellResult], methods: Sequence[str], measures: Sequence[StudyMeasure]) -> dict[str, object]:
    """Returns the lines of the table that share width and k; the best mean of each figure is marked."""
    best: dict[str, float] = {}
    for measure in measures:
        means = [estimate.mean for cell in cells if (estimate := measure.of(cell))]
        if measure.better and len(means) > 1 and len(set(means)) > 1:
            best[measure.name] = min(means) if measure.better == "lower" else max(means)
    lines = []
    for cell in cells:
        figures = []
        for measure in measures:
            estimate = measure.of(cell)
            figures.append(
                {
                    "text": "–" if estimate is None else measure.show(estimate.mean),
                    "detail": _detail(measure, cell),
                    "best": estimate is not None and best.get(measure.name) == estimate.mean,
                }
            )
        lines.append(
            {
                "key": _key(cell.method, methods.index(cell.method)),
                "lr": rate_text(cell),
                "seeds": sum(member.state == "finished" for member in cell.members),
                "figures": figures,
                "notes": cell.notes,
            }
        )
    return {"title": f"{cells[0].d_sae:,} features, k {cells[0].k}", "lines": lines}


def _detail(measure: StudyMeasure, cell: CellResult) -> str:
    estimate = measure.of(cell)
    if estimate is None:
        return ""
    if estimate.deviation is not None:
        return f"± {measure.show(estimate.deviation)}"
    if estimate.interval is not None:
        return f"{measure.show(estimate.interval[0])} to {measure.show(estimate.interval[1])}"
    return ""


def _sections(result: StudyResult) -> list[Section]:
    sections = []
    for width in result.widths:
        cells = [cell for cell in result.cells if cell.d_sae == width]
        if any(measure.of(cell) for cell in cells for measure in FRONTS):
            figures = [
                front_figure(cells, result.methods, measure, f"front-{width}-{measure.name}") for measure in FRONTS
            ]
            sections.append(Section(title=f"Pareto fronts, {width:,} features", figures=figures))
    for cells in _by_size(result.cells):
        size = f"{cells[0].d_sae:,} features, k {cells[0].k}"
        name = f"{cells[0].d_sae}-{cells[0].k}"
        evaluated = [cell for cell in cells if any(measure.of(cell) for measure in FRONTS)]
        figures = []
        if len(evaluated) > 1:
            figures += [
                methods_figure(evaluated, result.methods, measure, f"methods-{name}-{measure.name}")
                for measure in FRONTS
            ]
        if any(len(cell.rates) > 1 and cell.best is not None for cell in cells):
            figures.append(rates_figure(cells, result.methods, f"rates-{name}"))
        if figures:
            sections.append(Section(title=f"Methods side by side, {size}", figures=figures))
    return sections
