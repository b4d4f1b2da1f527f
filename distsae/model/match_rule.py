"""Which selector finds the matches of an SAE: that of its frozen rule, of its training rule, or TopK."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from distsae.allocation import FeatureSelector, QuotaCredit, Selector, ThresholdSelector, TokenSelector
from distsae.errors import WrongInput
from distsae.model.sae_config import SAEConfig
from distsae.model.training_rule import training_selector

__all__ = ["MatchRule", "selector_of"]

MatchRule = Literal["frozen", "training", "per_token"]
"""How `SAE.matches` selects."""


def selector_of(
    rule: MatchRule, cfg: SAEConfig, threshold: Tensor | None, quota_per_token: Tensor | None, tokens: int
) -> Selector:
    """Returns the selector of a rule for a batch.

    Args:
        rule: how to select.
        cfg: config of the SAE.
        threshold: score that a feature must exceed to fire, `[d_sae]`; None for Token Choice.
        quota_per_token: mean matches per token of each feature, `[d_sae]`; None but for Feature Choice.
        tokens: tokens of the batch.

    Raises:
        WrongInput: the training rule is Feature Choice, and there are no quotas.
    """
    if rule == "frozen" and threshold is not None:
        return ThresholdSelector(threshold.float())
    if rule == "per_token":
        return TokenSelector(cfg.k)
    selector = training_selector(cfg.allocation, cfg.k, cfg.d_sae)
    if isinstance(selector, FeatureSelector):
        if quota_per_token is None:
            raise WrongInput(
                "the training rule of Feature Choice needs `quota_per_token`; got an SAE without; use rule frozen"
            )
        selector.grant(QuotaCredit(quota_per_token, cfg.k).pay(tokens))
    return selector
