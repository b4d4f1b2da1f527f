"""The results of a study: a cell for each method, width and k, with its members, rates and figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from distsae.nested_keys import at_key

__all__ = ["CellResult", "MemberResult", "OverSeeds", "RateResult", "State", "StudyResult"]

State = Literal["finished", "diverged", "failed", "waiting"]
"""What has become of a member."""


@dataclass(frozen=True, kw_only=True)
class OverSeeds:
    """One figure of a cell.

    Args:
        mean: mean over the seeds.
        deviation: standard deviation over the seeds; None for one seed.
        seeds: number of seeds.
        interval: 95% interval over contexts, of one seed alone; None without one.
    """

    mean: float
    deviation: float | None
    seeds: int
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class MemberResult:
    """One SAE of a study.

    Args:
        path: its folder, inside the folder of the members.
        seed: seed of its initial features.
        state: what has become of it.
        reason: why it has no result; empty if it has one or is waiting.
        heldout_fvu: FVU of the frozen rule on held-out rows, at the end of training; None without one.
        evaluation: content of `evaluation.json`; None without an evaluation.
    """

    path: str
    seed: int
    state: State
    reason: str = ""
    heldout_fvu: float | None = None
    evaluation: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class RateResult:
    """One learning rate of a cell, tried at the first seed.

    Args:
        rate: the rate as it was given: a number or auto.
        size: the rate as a number; None if it is not known.
        member: the member that tried it.
    """

    rate: float | str
    size: float | None
    member: MemberResult


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """A method at one width and one k.

    Args:
        method: name of the method.
        d_sae: number of features.
        k: mean matches per token.
        rates: all learning rates that were tried.
        best: the best of them; None if it is not known yet, or all diverged.
        edge: end of the list of rates that the best one is at; empty if rates on both sides of it were tried.
        members: members at the best rate, one for each seed.
    """

    method: str
    d_sae: int
    k: int
    rates: Sequence[RateResult]
    best: RateResult | None
    edge: str = ""
    members: Sequence[MemberResult] = ()

    @property
    def name(self) -> str:
        """Name of the cell."""
        return f"{self.method}, d_sae {self.d_sae}, k {self.k}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of its line has to know."""
        found = []
        if self.edge:
            found.append(f"best at the {self.edge} rate of the list: widen it")
        for state in ("diverged", "failed", "waiting"):
            trials = [str(rate.rate) for rate in self.rates if rate.member.state == state]
            if trials:
                found.append(f"{state} at {', '.join(trials)}")
            tried = {rate.member.path for rate in self.rates}
            seeds = [str(m.seed) for m in self.members if m.state == state and m.path not in tried]
            if seeds:
                found.append(f"{state} with seed {', '.join(seeds)}")
        return tuple(found)

    def values(self, *keys: str) -> list[float]:
        """Returns a figure of every evaluated member: the first of the dotted keys that its evaluation has."""
        found = []
        for member in self.members:
            value = next((v for key in keys if (v := at_key(member.evaluation, key)) is not None), None)
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                found.append(float(value))
        return found

    def estimate(self, *keys: str) -> OverSeeds | None:
        """Returns a figure over the seeds; None if no member has it."""
        found = self.values(*keys)
        if not found:
            return None
        return OverSeeds(
            mean=statistics.fmean(found),
            deviation=statistics.stdev(found) if len(found) > 1 else None,
            seeds=len(found),
            interval=self._interval(keys) if len(found) == 1 else None,
        )

    def _interval(self, keys: Sequence[str]) -> tuple[float, float] | None:
        for member in self.members:
            for key in keys:
                if at_key(member.evaluation, key) is not None:
                    limits = at_key(member.evaluation, f"{key}_ci95")
                    if isinstance(limits, list) and None not in limits:
                        return float(limits[0]), float(limits[1])
                    return None
        return None


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """A whole study, finished or not.

    Args:
        name: name of the study.
        cells: the cells, in the order of the table.
        facts: what was trained, as text by label.
        members: all members, those at other rates than the best included.
    """

    name: str
    cells: Sequence[CellResult]
    facts: dict[str, str] = field(default_factory=dict)
    members: Sequence[MemberResult] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, in the order of the table."""
        return tuple(dict.fromkeys(cell.method for cell in self.cells))

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers of features, ascending."""
        return tuple(sorted({cell.d_sae for cell in self.cells}))
