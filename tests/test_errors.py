from distsae.errors import (
    CannotContinue,
    CheckpointFailed,
    DistsaeError,
    Diverged,
    NonFiniteScores,
    TornData,
    WrongInput,
    nearest,
)


def test_nearest_known_name():
    known = ("mesh.data", "mesh.feature", "sae.d_sae")
    assert nearest("mesh.featur", known) == "; did you mean 'mesh.feature'?"
    assert nearest("sae.dsae", known) == "; did you mean 'sae.d_sae'?"
    assert nearest("zzz", known) == ""
    assert nearest("mesh.data", []) == ""


def test_every_error_has_one_base_class():
    for kind in (WrongInput, TornData, CheckpointFailed, NonFiniteScores):
        assert issubclass(kind, DistsaeError)


def test_errors_that_every_rank_raises_are_reported_by_one():
    assert all(kind.of_all_ranks for kind in (WrongInput, CheckpointFailed, Diverged, NonFiniteScores))
    assert not any(kind.of_all_ranks for kind in (CannotContinue, TornData))
