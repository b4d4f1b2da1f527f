"""One process is a world of its own; several are tested in test_resharding."""

from __future__ import annotations

import pytest

from distsae.checkpoint.failures import CheckpointFailed
from distsae.checkpoint.ranks import Ranks
from distsae.errors import NonFiniteScores, TornData, WrongInput


def test_alone() -> None:
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
def test_what_a_user_can_mend_keeps_its_class(raised: type[Exception], seen: type[Exception]) -> None:
    def work() -> None:
        raise raised("the reason")

    with pytest.raises(seen, match=r"^the reason$"):
        Ranks(None).together(work)


def test_faults_of_ours_are_not_dressed_up() -> None:
    with pytest.raises(ZeroDivisionError):
        Ranks(None).together(lambda: 1 // 0)
