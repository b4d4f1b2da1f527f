"""The training rules by name: a run trains with one, and a frozen SAE can be compared with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from distsae.allocation import FeatureSelector, MutualSelector, TokenSelector, TrainingSelector

__all__ = ["ALLOCATION_TITLES", "AllocationName", "needs_threshold", "training_selector"]

AllocationName = Literal["token_choice", "mutual_choice", "feature_choice"]

ALLOCATION_TITLES: Mapping[str, str] = {
    "token_choice": "Token Choice",
    "mutual_choice": "Mutual Choice",
    "feature_choice": "Feature Choice",
}
"""Each rule's name in prose, by its `AllocationName`; the keys are plain strings, as files hold them."""

_SELECTS_FROM_A_BATCH: Mapping[AllocationName, bool] = {
    "token_choice": False,
    "mutual_choice": True,
    "feature_choice": True,
}


def training_selector(allocation: AllocationName, k: int, features: int) -> TrainingSelector:
    """Returns a new selector of a rule, which has seen no batch yet. One of Feature Choice still needs its quotas.

    Args:
        allocation: name of the rule.
        k: mean matches per token; Feature Choice does not use it.
        features: number of features on this rank.
    """
    match allocation:
        case "token_choice":
            return TokenSelector(k)
        case "mutual_choice":
            return MutualSelector(k)
        case "feature_choice":
            return FeatureSelector(features)


def needs_threshold(allocation: AllocationName) -> bool:
    """Returns whether a rule selects from a whole batch, so that its frozen form is made of thresholds.

    A rule that selects for each token alone is its own frozen form. An unknown name, from an SAE of another version,
    is taken to need thresholds.
    """
    return _SELECTS_FROM_A_BATCH.get(allocation, True)
