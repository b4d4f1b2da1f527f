"""Numbers of steps and of checkpoints must be positive."""

from __future__ import annotations

import pytest

from distsae.checkpoint import CheckpointConfig
from distsae.errors import WrongInput


@pytest.mark.parametrize("name", ["every", "keep_last", "keep_every"])
@pytest.mark.parametrize("value", [0, -3])
def test_what_is_not_positive_is_refused(name: str, value: int) -> None:
    with pytest.raises(WrongInput, match=rf"^`checkpoint\.{name}` \(={value}\) must be at least 1"):
        CheckpointConfig(**{name: value})
    assert getattr(CheckpointConfig(**{name: 1}), name) == 1


def test_only_the_newest_are_kept_by_default() -> None:
    assert CheckpointConfig().keep_every is None
