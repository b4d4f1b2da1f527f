"""The batch rules by name: what a run trains with and what a frozen SAE can be compared to."""

from __future__ import annotations

from typing import Literal

from distsae.allocation import FeatureSelector, MutualSelector, TokenSelector

__all__ = ["AllocationName", "BatchSelector", "batch_selector"]

AllocationName = Literal["token_choice", "mutual_choice", "feature_choice"]

BatchSelector = TokenSelector | MutualSelector | FeatureSelector


def batch_selector(allocation: AllocationName, k: int, features: int) -> BatchSelector:
    """Returns a selector of the rule `allocation` without a history; Feature Choice still needs its quotas.

    Args:
        allocation: the rule.
        k: mean matches per token.
        features: features on this rank.
    """
    match allocation:
        case "token_choice":
            return TokenSelector(k)
        case "mutual_choice":
            return MutualSelector(k)
        case "feature_choice":
            return FeatureSelector(features)
