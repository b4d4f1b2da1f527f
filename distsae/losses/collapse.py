"""Two signs that a dictionary collapses: a few features take the whole budget, or all tokens get the same features.

Both are numbers of every logged line. When one rises over its limit a line says so, once; the run goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from distsae.allocation import DensityRanks
from distsae.collective import Collective
from distsae.errors import WrongInput
from distsae.losses.firing import FiringStatistics

__all__ = ["AlarmConfig", "CollapseAlarms", "Concentration"]


@dataclass(frozen=True, kw_only=True)
class AlarmConfig:
    """Limits over which a run warns that its dictionary collapses; 1 is never exceeded.

    Args:
        top_feature_share: limit of the share of all matches that the densest 1% of the features take.
        token_overlap: limit of the mean share of their features that two tokens of a batch have in common.
    """

    top_feature_share: float = 0.95
    token_overlap: float = 0.3

    def __post_init__(self) -> None:
        for name in ("top_feature_share", "token_overlap"):
            if not 0 < getattr(self, name) <= 1:
                raise WrongInput(
                    f"`alarms.{name}` (={getattr(self, name)}) must be in (0, 1]; 1 switches the alarm off"
                )


@dataclass(frozen=True)
class Concentration:
    """How concentrated the matches are; a number is None before it is known.

    Args:
        top_feature_share: share of all matches in the density window that the densest 1% of the features take.
        token_overlap: size of the intersection of two tokens' feature sets, averaged over all pairs of tokens of the
            last global batch, over the mean size of a set: 0 if no two tokens share a feature, 1 if all have the same.
    """

    top_feature_share: float | None = None
    token_overlap: float | None = None

    @staticmethod
    def measure(statistics: FiringStatistics, feature: Collective) -> Concentration:
        """Measures all ranks' features, the same on every mesh; collective, two small sums of integers.

        Feature `j`, with `n_j` matches in the batch, is common to `n_j (n_j - 1) / 2` pairs of tokens.
        """
        share = DensityRanks.measure(statistics.density(), feature).top_share()
        counts, tokens = statistics.last_counts, statistics.last_tokens
        if counts is None:
            return Concentration(share, None)
        matches, shared = feature.sum(torch.stack([counts.sum(), (counts * (counts - 1)).sum()])).tolist()
        overlap = shared / ((tokens - 1) * matches) if tokens > 1 and matches else None
        return Concentration(share, overlap)


_MEANING = {
    "top_feature_share": (
        "the densest 1% of the features take that share of all matches",
        "lower `optimizer.lr`, or let Feature Choice give out quotas (`finetune_fc_from`)",
    ),
    "token_overlap": (
        "two tokens of a batch have that share of their features in common",
        "lower `optimizer.lr`, or look for activations that a few directions dominate",
    ),
}


class CollapseAlarms:
    """Warns when a number rises over its limit, and again only after it fell back.

    Args:
        limits: the limits.
    """

    def __init__(self, limits: AlarmConfig) -> None:
        self._limits = limits
        self._raised: set[str] = set()

    def facts(self) -> list[str]:
        """Returns the numbers that are over their limits and have been warned about."""
        return sorted(self._raised)

    def restore(self, state: list[str]) -> None:
        """Goes on from what `state` returned: what was warned about then is not warned about again."""
        self._raised = set(state)

    def check(self, step: int, found: Concentration) -> list[str]:
        """Returns the warnings, one line each, that `found` gives rise to after `step` steps."""
        lines = []
        for name, (meaning, advice) in _MEANING.items():
            value, limit = getattr(found, name), getattr(self._limits, name)
            if value is None:
                continue
            if value <= limit:
                self._raised.discard(name)
            elif name not in self._raised:
                self._raised.add(name)
                lines.append(
                    f"warning: step {step}: {name} {value:.3f} is over its limit {limit:g}: {meaning}; the dictionary "
                    f"may be collapsing; {advice}, or raise `alarms.{name}`"
                )
        return lines
