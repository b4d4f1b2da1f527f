"""Two signs that a dictionary collapses: a few features take the whole budget, or all tokens get the same features.

Both are numbers in every logged line. When one rises above its limit, the run prints one warning and goes on.
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
    """Limits above which a run warns that its dictionary may be collapsing; a limit of 1 is never exceeded.

    Args:
        top_feature_share: limit for the share of all matches that the densest 1% of the features take.
        token_overlap: limit for the mean share of their features that two tokens of a batch have in common.
    """

    top_feature_share: float = 0.95
    token_overlap: float = 0.3

    def __post_init__(self) -> None:
        for name in ("top_feature_share", "token_overlap"):
            if not 0 < getattr(self, name) <= 1:
                raise WrongInput(
                    f"`alarms.{name}` (={getattr(self, name)}) must be in (0, 1]; use 1 to switch the alarm off"
                )


@dataclass(frozen=True)
class Concentration:
    """How concentrated the matches are; a number is None until it is known.

    Args:
        top_feature_share: share of all matches in the density window that the densest 1% of the features take.
        token_overlap: number of features that two tokens have in common, averaged over all pairs of tokens of the last
            global batch, divided by the mean number of features of a token: 0 if no two tokens share a feature, 1 if
            all have the same features.
    """

    top_feature_share: float | None = None
    token_overlap: float | None = None

    @staticmethod
    def measure(statistics: FiringStatistics, feature: Collective) -> Concentration:
        """Measures the concentration over all features, the same on every mesh; collective, two small integer sums.

        Feature `j`, with `n_j` matches in the batch, is common to `n_j (n_j - 1) / 2` pairs of tokens.

        Args:
            statistics: firing statistics of this rank's features.
            feature: the ranks that share the features.
        """
        share = DensityRanks.measure(statistics.density(), feature).top_share()
        counts, tokens = statistics.last_counts, statistics.last_tokens
        if counts is None:
            return Concentration(share, None)
        matches, shared = feature.sum(torch.stack([counts.sum(), (counts * (counts - 1)).sum()])).tolist()
        overlap = shared / ((tokens - 1) * matches) if tokens > 1 and matches else None
        return Concentration(share, overlap)


_EXPLANATIONS = {
    "top_feature_share": (
        "the densest 1% of the features take this share of all matches",
        "lower `optimizer.lr`, or limit features by the quotas of Feature Choice (`finetune_fc_from`)",
    ),
    "token_overlap": (
        "two tokens of a batch have this share of their features in common",
        "lower `optimizer.lr`, or check whether a few directions dominate the activations",
    ),
}


class CollapseAlarms:
    """Warns when a number rises above its limit, and again only after it has fallen back.

    Args:
        limits: limit of each number.
    """

    def __init__(self, limits: AlarmConfig) -> None:
        self._limits = limits
        self._raised: set[str] = set()

    def facts(self) -> list[str]:
        """Returns the names of the numbers that have been warned about and are still above their limits."""
        return sorted(self._raised)

    def restore(self, facts: list[str]) -> None:
        """Goes on from what `facts` returned: the numbers named there are not warned about again until they fall."""
        self._raised = set(facts)

    def check(self, step: int, found: Concentration) -> list[str]:
        """Returns the warnings that a measurement calls for, one line each.

        Args:
            step: number of steps done.
            found: concentration of the matches after them.
        """
        lines = []
        for name, (meaning, advice) in _EXPLANATIONS.items():
            value = getattr(found, name)
            limit = getattr(self._limits, name)
            if value is None:
                continue
            if value <= limit:
                self._raised.discard(name)
            elif name not in self._raised:
                self._raised.add(name)
                lines.append(
                    f"warning: step {step}: {name} {value:.3f} is above its limit {limit:g}: {meaning}; the dictionary "
                    f"may be collapsing; {advice}, or raise `alarms.{name}`"
                )
        return lines
