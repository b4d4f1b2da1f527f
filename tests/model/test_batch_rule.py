"""A rule by its name."""

from typing import get_args

import pytest

from distsae.allocation import FeatureSelector, MutualSelector, TokenSelector
from distsae.model import ALLOCATION_TITLES, AllocationName, batch_selector

KINDS = {"token_choice": TokenSelector, "mutual_choice": MutualSelector, "feature_choice": FeatureSelector}


@pytest.mark.parametrize("allocation", get_args(AllocationName))
def test_each_rule_has_its_selector(allocation):
    selector = batch_selector(allocation, 3, 11)
    assert type(selector) is KINDS[allocation]
    if allocation == "feature_choice":
        assert selector.cuts.numel() == 11
    else:
        assert selector.k == 3
    assert batch_selector(allocation, 3, 11) is not selector  # a new one each time


def test_each_rule_has_its_title():
    assert set(ALLOCATION_TITLES) == set(get_args(AllocationName))
    assert ALLOCATION_TITLES["mutual_choice"] == "Mutual Choice"
