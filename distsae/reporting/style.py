"""One look for all figures: colours that readers with colour blindness can tell apart, and SVG to put into a page.

A run has the same colour and dash in every figure and in the key of the page. Runs beyond the end of the palette reuse
its colours with another dash. Text stays text: it scales, and it can be searched and read aloud.
"""

from __future__ import annotations

import contextlib
import html
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure as Canvas

__all__ = ["COLOURS", "INK", "MUTED", "Figure", "Look", "drawing", "look", "panels", "to_svg", "verbatim"]

INK = "#1f2933"
MUTED = "#616e7c"
_GRID = "#e4e7eb"

# The palette of Okabe and Ito without its yellow, which is too light for lines on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
_DASHES: tuple[tuple[float, ...], ...] = ((), (5.0, 1.5), (1.5, 1.2), (6.0, 1.5, 1.5, 1.5))

COLOURS = len(_COLOURS)
"""Number of colours; runs beyond it have the same colours again, with other dashes."""

_SETTINGS = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.width": 0.5,
    "ytick.minor.width": 0.5,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "path.simplify": True,
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """Colour and dash of a run in all figures.

    Args:
        colour: hexadecimal colour, such as `#0072B2`.
        dash: lengths of strokes and gaps in points; empty for a solid line.
    """

    colour: str
    dash: tuple[float, ...]

    @property
    def line(self) -> dict[str, Any]:
        """Keyword arguments for a matplotlib line."""
        return {"color": self.colour, "linestyle": (0, self.dash) if self.dash else "-"}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of the page.

    Args:
        title: what the figure shows.
        reading: a sentence or two on how to read it.
        svg: drawing as one `<svg>` element with its alternative text.
    """

    title: str
    reading: str
    svg: str


def look(index: int) -> Look:
    """Returns the colour and dash of the run in column `index`."""
    dash = _DASHES[index // len(_COLOURS) % len(_DASHES)]
    return Look(colour=_COLOURS[index % len(_COLOURS)], dash=dash)


def verbatim(name: str) -> str:
    """Returns a name as a drawing has to get it: without this, what is between two dollars is a formula."""
    return name.replace("$", r"\$")


@contextlib.contextmanager
def drawing(width: float = 5.6, height: float = 3.3) -> Iterator[tuple[Canvas, Any]]:
    """Yields a canvas of that size in inches, with one pair of axes, in the style of the report."""
    with panels(1, width, height) as (canvas, (axes,)):
        yield canvas, axes


@contextlib.contextmanager
def panels(count: int, width: float = 5.6, height: float = 3.3) -> Iterator[tuple[Canvas, Sequence[Any]]]:
    """Yields a canvas with `count` pairs of axes, two in a row, that share their vertical axis, as `drawing` does."""
    with matplotlib.rc_context(_SETTINGS):
        canvas = Canvas(figsize=(width, height), layout="constrained")
        columns = min(count, 2)
        grid = canvas.subplots(-(-count // columns), columns, sharey=True, squeeze=False)
        for unused in grid.flat[count:]:
            unused.remove()
        yield canvas, list(grid.flat[:count])


def to_svg(canvas: Canvas, name: str, alt: str) -> str:
    """Returns the drawing as one `<svg>` element that scales with its container.

    Args:
        canvas: canvas with the finished drawing.
        name: name of the drawing, unique on the page; it keeps the identifiers of different drawings apart.
        alt: alternative text of the drawing.
    """
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": name}):
        file = io.StringIO()
        canvas.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # The style sheet would apply to the whole page; the style attribute of the root below does the same by inheritance.
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    # An id that nothing refers to could only clash with one of the next drawing.
    referred = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in referred else "", svg)
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    # The font of the page, which the reader's machine has; the drawing was laid out with a wider one.
    svg = svg.replace("'DejaVu Sans'", "var(--font)")
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None
    head = (
        f'<svg {view[0]} role="img" aria-label="{html.escape(alt, quote=True)}" '
        'style="stroke-linejoin: round; stroke-linecap: butt" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return head + f"<title>{html.escape(alt)}</title>" + svg[svg.index(">") + 1 :].strip()
