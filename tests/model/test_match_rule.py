import pytest
import torch

from distsae.allocation import FeatureSelector, MutualSelector, ThresholdSelector, TokenSelector
from distsae.errors import WrongInput
from distsae.model import SAEConfig
from distsae.model.match_rule import selector_of

THRESHOLD, QUOTAS = torch.full((8,), 0.5), torch.full((8,), 0.25)


@pytest.mark.parametrize(
    ("rule", "allocation", "threshold", "expected"),
    [
        ("frozen", "mutual_choice", THRESHOLD, ThresholdSelector),
        ("frozen", "token_choice", None, TokenSelector),
        ("training", "mutual_choice", THRESHOLD, MutualSelector),
        ("training", "feature_choice", THRESHOLD, FeatureSelector),
        ("per_token", "feature_choice", THRESHOLD, TokenSelector),
    ],
)
def test_each_rule_has_its_selector(rule, allocation, threshold, expected):
    cfg = SAEConfig.of_unknown_origin(4, 8, 2, allocation)
    assert isinstance(selector_of(rule, cfg, threshold, QUOTAS, 16), expected)


def test_feature_choice_needs_quotas():
    cfg = SAEConfig.of_unknown_origin(4, 8, 2, "feature_choice")
    with pytest.raises(WrongInput, match="needs `quota_per_token`"):
        selector_of("training", cfg, THRESHOLD, None, 16)
