"""Sizes that make no check are refused."""

import pytest

from distsae.errors import WrongInput
from distsae.recipes.check import CheckConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_in": 4}, r"`d_in` \(=4\) must be at least 8"),
        ({"k": 0}, r"`k` \(=0\) must be at least 1"),
        ({"batch_tokens": 64}, r"`batch_tokens` \(=64\) must be at least 256"),
        ({"batch_tokens": 1000}, r"`batch_tokens` \(=1000\) must be a multiple of 64"),
        ({"processes": 0}, r"`processes` \(=0\) must be at least 1"),
        ({"minutes": 0}, r"`minutes` \(=0\) must be positive"),
        ({"minutes": float("nan")}, r"`minutes` \(=nan\) must be positive"),
    ],
)
def test_wrong_sizes_are_refused(changes, message):
    with pytest.raises(WrongInput, match=message):
        CheckConfig(**changes)
