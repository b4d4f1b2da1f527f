"""The meshes of some devices are those that training accepts; the best is the fastest that fits."""

import pytest

from distsae.errors import WrongInput
from distsae.parallel import MeshConfig
from distsae.planning.cluster.meshes import best, possible_meshes
from tests.planning.cluster.samples import plan, plan_config


def _shapes(**changes):
    return [(mesh.data, mesh.feature) for mesh in possible_meshes(plan_config(**changes))]


def test_all_factors_with_a_data_axis_that_divides_the_streams():
    assert _shapes(gpus=8) == [(1, 8), (2, 4), (4, 2), (8, 1)]
    assert _shapes(gpus=12) == [(1, 12), (2, 6), (4, 3)]
    assert _shapes(gpus=256)[-1] == (64, 4)
    assert _shapes(gpus=8, d_sae=4, k=1) == [(2, 4), (4, 2), (8, 1)]
    assert _shapes(gpus=8, data=2) == [(2, 4)]
    assert _shapes(gpus=8, feature=2) == [(4, 2)]


def test_no_mesh_is_one_line():
    with pytest.raises(WrongInput, match="got no such mesh"):
        _shapes(gpus=8, data=3)
    with pytest.raises(WrongInput, match="must have at least two `gpus`"):
        _shapes(gpus=1, engine="deepspeed")


def test_the_fastest_that_fits_comes_first():
    found = plan(gpus=64, d_sae=1 << 24).meshes
    fitting = [one for one in found if one.fits]
    assert 0 < len(fitting) < len(found)
    assert found[: len(fitting)] == tuple(sorted(fitting, key=lambda one: one.step.whole))
    assert found == tuple(best(found[::-1]))
    none = plan(gpus=8, d_sae=1 << 26).meshes
    assert not any(one.fits for one in none)
    assert none[0].mesh == MeshConfig(data=1, feature=8)
