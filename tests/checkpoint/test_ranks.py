"""Ranks of one process succeed or fail like those of several, which test_resharding and test_saver cover."""

from __future__ import annotations

import pytest

from distsae.checkpoint.ranks import Ranks
from distsae.errors import CheckpointFailed, NonFiniteScores, TornData, WrongInput


def test_one_process_needs_no_group() -> None:
    ranks = Ranks(None)
    assert ranks.first
    assert ranks.exchange({"a": 1}) == [{"a": 1}]
    assert ranks.together(lambda: 5) == [5]
    assert ranks.only_first(lambda: "x") == "x"


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (WrongInput, WrongInput),
        (TornData, TornData),
        (PermissionError, CheckpointFailed),
        (NonFiniteScores, CheckpointFailed),
    ],
)
def test_errors_keep_their_class_if_it_matters_to_the_user(raised: type[Exception], seen: type[Exception]) -> None:
    def work() -> None:
        raise raised("the reason")

    with pytest.raises(seen, match=r"^the reason$"):
        Ranks(None).together(work)


def test_bugs_are_raised_as_they_are() -> None:
    with pytest.raises(ZeroDivisionError):
        Ranks(None).together(lambda: 1 // 0)
