"""The seconds of a step as text."""

from __future__ import annotations

from collections.abc import Sequence

from distsae.planning.measured_rates import MeasuredRates
from distsae.planning.step_seconds import StepSeconds

__all__ = ["step_table"]

_WIDTH = 34


def step_table(expected: StepSeconds, rates: MeasuredRates, differing: Sequence[str] = ()) -> list[str]:
    """Returns lines: from what the seconds follow, the parts in milliseconds, their sum, the bottleneck.

    Args:
        expected: the seconds.
        rates: what was measured.
        differing: settings of the run that a check does not measure.
    """
    sizes = rates.sizes
    lines = [
        f"time of a step, from one of Mutual Choice that was measured at d_sae {expected.measured_at or 0:,}, d_in "
        f"{sizes.d_in}, {sizes.batch_tokens} tokens, k {sizes.k}",
        _line("ms", ""),
        *(_line(name, _ms(seconds)) for name, seconds in expected.parts.items()),
        *(_line(f"{name}, meanwhile", _ms(seconds)) for name, seconds in expected.meanwhile.items()),
        _line("step", _ms(expected.whole)),
        f"{expected.tokens_per_second:,.0f} tokens/s; bottleneck: {expected.bottleneck}",
    ]
    if "reading" not in expected.meanwhile:
        lines.append("reading was not measured and is left out")
    if differing:
        lines.append(f"not measured, so the times are those without: {', '.join(differing)}")
    return lines


def _line(name: str, value: str) -> str:
    return f"{name:<{_WIDTH}}{value:>10}".rstrip()


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.3g}" if seconds < 1 else f"{1e3 * seconds:,.0f}"
