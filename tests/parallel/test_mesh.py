"""The mesh: which rank holds which features, and what is refused."""

import pytest

from distsae.errors import WrongInput
from distsae.parallel import MeshConfig, build_mesh
from tests.distributed.processes import MESHES, run_on_mesh


def _placement(mesh, d_sae):
    placement = mesh.placement(d_sae, tokens=5)
    features, ranges = mesh.features(d_sae), mesh.feature_ranges(d_sae)
    return placement.first_feature, placement.first_token, features, placement.d_sae, ranges


@pytest.mark.parametrize("d_sae", [24, 26, 5])
@pytest.mark.parametrize("shape", MESHES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_features_and_tokens_are_split_without_gap_or_overlap(shape, d_sae):
    ranks = run_on_mesh(_placement, shape, d_sae)
    for rank, (first_feature, first_token, features, all_features, ranges) in enumerate(ranks):
        assert first_feature == features.start
        assert features == ranges[rank % shape[1]]
        assert ranges == ranks[0][4]
        assert first_token == (rank // shape[1]) * 5
        assert all_features == d_sae
    ranges = ranks[0][4]
    assert [feature for part in ranges for feature in part] == list(range(d_sae))
    lengths = [len(part) for part in ranges]
    assert lengths == sorted(lengths, reverse=True)
    assert max(lengths) - min(lengths) <= 1


def test_one_process_is_a_mesh_without_torch_distributed():
    mesh = build_mesh(MeshConfig(), 1, "cpu")
    assert mesh.device_mesh is None
    assert mesh.features(10) == range(10)


def test_processes_that_do_not_fill_the_mesh_are_refused():
    mesh = MeshConfig(data=2, feature=3)
    mesh.require_processes(6)
    message = r"`mesh.data` \* `mesh.feature` \(=2 \* 3\) must equal .*; got 4; start 6 with .*--num_processes 6 "
    with pytest.raises(WrongInput, match=message):
        mesh.require_processes(4)
    with pytest.raises(WrongInput, match=message):
        build_mesh(mesh, 4, "cpu")


def test_an_axis_without_ranks_is_refused():
    for name in ("data", "feature"):
        with pytest.raises(WrongInput, match=rf"`mesh.{name}` \(=0\) must be at least 1"):
            MeshConfig(**{name: 0})
