"""The page itself: one HTML file that works without a network, scripts or other files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from distsae import __version__
from distsae.model import ALLOCATION_TITLES
from distsae.reporting.runs import ReportedRun, same_rows, same_text
from distsae.reporting.style import Figure, look
from distsae.reporting.table import Row

__all__ = ["Section", "render"]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with figures under it.

    Args:
        title: the heading.
        figures: figures in reading order.
        note: text under the heading; empty for none.
    """

    title: str
    figures: Sequence[Figure]
    note: str = ""


def render(
    runs: Sequence[ReportedRun], setup: Sequence[Row], results: Sequence[Row], sections: Sequence[Section]
) -> str:
    """Returns the HTML of the page.

    Args:
        runs: runs in the order of the columns.
        setup: rows of the table of what was run.
        results: rows of the table of results; empty without any.
        sections: sections with figures, in reading order.
    """
    environment = Environment(
        loader=PackageLoader("distsae.reporting"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["drawing"] = Markup  # drawings are our own markup, not text of the user
    keys = [
        {
            "name": run.name,
            "path": str(run.path),
            "colour": look(run.column).colour,
            "dash": " ".join(f"{part:g}" for part in look(run.column).dash),
            "allocation": _allocation(run),
            "evaluated": run.evaluation is not None,
        }
        for run in runs
    ]
    return environment.get_template("report.html.jinja").render(
        keys=keys,
        setup=setup,
        results=results,
        sections=sections,
        comparable=same_text(runs),
        rows_are_the_same=same_rows(runs),
        version=__version__,
    )


def _allocation(run: ReportedRun) -> str:
    first = ALLOCATION_TITLES.get(str(run.setting("allocation")), "")
    return f"{first}, then Feature Choice" if run.setting("finetune_fc_from") is not None else first
