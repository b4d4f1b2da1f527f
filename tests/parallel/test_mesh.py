"""The mesh: who holds which features, and what it refuses."""

import pytest

from distsae.errors import WrongInput
from distsae.parallel import MeshConfig, build_mesh
from tests.distributed.processes import MESHES, run_on_mesh


def _place(mesh):
    place = mesh.place(24, tokens=5)
    return place.first_feature, place.first_token, list(mesh.features(24)), place.d_sae


@pytest.mark.parametrize("shape", MESHES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_features_and_tokens_are_split_without_gap_or_overlap(shape):
    feature = shape[1]
    share = 24 // feature
    for rank, (first_feature, first_token, features, d_sae) in enumerate(run_on_mesh(_place, shape)):
        assert first_feature == (rank % feature) * share
        assert features == list(range(first_feature, first_feature + share))
        assert first_token == (rank // feature) * 5
        assert d_sae == 24


def test_one_process_is_a_mesh_without_torch_distributed():
    mesh = build_mesh(MeshConfig(), 1, "cpu")
    assert mesh.device_mesh is None
    assert mesh.features(10) == range(10)


def test_wrong_input_is_named():
    with pytest.raises(WrongInput, match=r"`mesh.data` \* `mesh.feature` \(=2 \* 3\) must equal .*; got 4; .* 6"):
        build_mesh(MeshConfig(data=2, feature=3), 4, "cpu")
    for name in ("data", "feature"):
        with pytest.raises(WrongInput, match=rf"`mesh.{name}` \(=0\) must be at least 1"):
            MeshConfig(**{name: 0})
