"""Numbers as a page shows them: `12.3 M`, `1 h 04 min`, `1.23 %`; a dash for a number that is missing."""

from __future__ import annotations

import math

__all__ = ["amount", "duration", "fixed", "percent", "signed"]

_DASH = "–"


def fixed(value: object, digits: int = 4) -> str:
    """Returns a number with `digits` decimals."""
    number = _number(value)
    return _DASH if number is None else f"{number:.{digits}f}".replace("-", "−")


def signed(value: object, digits: int = 4) -> str:
    """Returns a difference with its sign."""
    number = _number(value)
    return _DASH if number is None else f"{number:+.{digits}f}".replace("-", "−")


def percent(value: object) -> str:
    """Returns a share in per cent with two decimals."""
    number = _number(value)
    return _DASH if number is None else f"{100 * number:.2f} %"


def amount(value: object) -> str:
    """Returns a count: whole below a million, in millions or billions above."""
    number = _number(value)
    if number is None:
        return _DASH
    for size, name in ((1e9, "B"), (1e6, "M")):
        if abs(number) >= size:
            return f"{number / size:.4g} {name}"
    return f"{number:,.0f}"


def duration(seconds: object) -> str:
    """Returns a time span in its two largest units."""
    number = _number(seconds)
    if number is None:
        return _DASH
    if number < 59.95:
        return f"{number:.1f} s"
    minutes, rest = divmod(round(number), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
