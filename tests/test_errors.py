from distsae.errors import DistsaeError, NonFiniteScores, TornData, WrongInput, nearest


def test_nearest_known_name():
    known = ("mesh.data", "mesh.feature", "sae.d_sae")
    assert nearest("mesh.featur", known) == "; did you mean 'mesh.feature'?"
    assert nearest("sae.dsae", known) == "; did you mean 'sae.d_sae'?"
    assert nearest("zzz", known) == ""
    assert nearest("mesh.data", []) == ""


def test_every_error_is_ours():
    for kind in (WrongInput, TornData, NonFiniteScores):
        assert issubclass(kind, DistsaeError)
