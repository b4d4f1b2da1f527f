"""A rule by its name."""

from typing import get_args

import pytest

from distsae.allocation import FeatureSelector, MutualSelector, TokenSelector
from distsae.model import ALLOCATION_TITLES, AllocationName, needs_threshold, training_rule, training_selector

KINDS = {"token_choice": TokenSelector, "mutual_choice": MutualSelector, "feature_choice": FeatureSelector}


@pytest.mark.parametrize("allocation", get_args(AllocationName))
def test_each_rule_has_its_selector(allocation):
    selector = training_selector(allocation, 3, 11)
    assert type(selector) is KINDS[allocation]
    if isinstance(selector, FeatureSelector):
        assert selector.cuts.numel() == 11
    else:
        assert isinstance(selector, MutualSelector | TokenSelector)
        assert selector.k == 3
    assert training_selector(allocation, 3, 11) is not selector  # a new one each time


def test_each_rule_has_its_title():
    assert set(ALLOCATION_TITLES) == set(get_args(AllocationName))
    assert ALLOCATION_TITLES["mutual_choice"] == "Mutual Choice"


def test_each_rule_says_whether_its_frozen_form_has_thresholds():
    assert set(training_rule._SELECTS_FROM_A_BATCH) == set(get_args(AllocationName))
    assert [rule for rule in get_args(AllocationName) if not needs_threshold(rule)] == ["token_choice"]
    assert needs_threshold("of another version")


def test_budgets():
    """Token Choice has whole matches per token, and Feature Choice has its quotas."""
    budgets = {rule: training_selector(rule, 3, 11).set_budget(4.6) for rule in get_args(AllocationName)}
    assert budgets == {"token_choice": 5, "mutual_choice": 4.6, "feature_choice": 4.6}
