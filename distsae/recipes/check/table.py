"""The findings as a table for a terminal, and as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence

from distsae.recipes.check.finding import Finding

__all__ = ["as_json", "line_of", "summary_of"]

_NAME = 28
_STATE = 7
_TEXT = 84


def line_of(finding: Finding) -> str:
    """Returns a line of the table; a long text goes on below."""
    first, *rest = textwrap.wrap(finding.text, _TEXT) or [""]
    lines = [f"{finding.name:<{_NAME}}  {finding.state:<{_STATE}}  {first}"]
    lines += [" " * (_NAME + _STATE + 4) + more for more in rest]
    return "\n".join(lines)


def summary_of(findings: Sequence[Finding]) -> str:
    """Returns the last line: what failed, and what was not looked at."""
    failed = [finding.name for finding in findings if finding.state == "failed"]
    skipped = [finding.name for finding in findings if finding.state == "skipped"]
    parts = [f"{len(failed)} failed: {'; '.join(failed)}" if failed else "nothing failed"]
    if skipped:
        parts.append(f"{len(skipped)} skipped: {'; '.join(skipped)}")
    return ". ".join(parts)


def as_json(findings: Sequence[Finding], settings: Mapping[str, int | str]) -> str:
    """Returns all findings with their figures, and the settings that they depend on."""
    rows = [
        {"name": finding.name, "state": finding.state, "text": finding.text, "figures": dict(finding.figures)}
        for finding in findings
    ]
    return json.dumps({"settings": dict(settings), "findings": rows}, indent=2) + "\n"
