"""The mesh: who holds which features, and what it refuses."""

import pytest

from distsae.errors import WrongInput
from distsae.parallel import MeshConfig, build_mesh
from tests.distributed.processes import MESHES, run_on_mesh


def _place(mesh, d_sae):
    place = mesh.place(d_sae, tokens=5)
    return place.first_feature, place.first_token, mesh.features(d_sae), place.d_sae, mesh.feature_ranges(d_sae)


@pytest.mark.parametrize("d_sae", [24, 26, 5])
@pytest.mark.parametrize("shape", MESHES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_features_and_tokens_are_split_without_gap_or_overlap(shape, d_sae):
    ranks = run_on_mesh(_place, shape, d_sae)
    for rank, (first_feature, first_token, features, everything, ranges) in enumerate(ranks):
        assert first_feature == features.start
        assert features == ranges[rank % shape[1]]
        assert ranges == ranks[0][4]
        assert first_token == (rank // shape[1]) * 5
        assert everything == d_sae
    ranges = ranks[0][4]
    assert [feature for part in ranges for feature in part] == list(range(d_sae))
    lengths = [len(part) for part in ranges]
    assert lengths == sorted(lengths, reverse=True)
    assert max(lengths) - min(lengths) <= 1


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
