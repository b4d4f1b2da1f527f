"""The formulas by hand."""

from dataclasses import replace

from distsae.parallel import MeshConfig
from distsae.planning.step_shape import StepShape, shape_of, work
from distsae.training import AuxiliaryConfig
from tests.planning.samples import run

ALONE = StepShape(d_in=8, d_sae=100, tokens=64, k=4)


def test_the_first_rank_of_a_mesh_has_its_share():
    shape = replace(ALONE, data=2, feature=3)
    assert (shape.ranks, shape.own_tokens, shape.own_features) == (6, 32, 34)
    assert shape.own_matches == 4 * 32 / 3
    assert work(shape)["product"] == 32 * 34 * 8
    assert work(shape)["weights"] == 2 * 34 * 8


def test_the_auxiliary_loss_is_a_second_reconstruction():
    shape = replace(ALONE, feature=2, k_aux=4)
    assert shape.reconstructions == 2
    assert work(shape)["matched"] == 2 * work(replace(shape, k_aux=0))["matched"]


def test_data_ranks_sum_the_gradients_of_all_and_deepspeed_those_of_its_own():
    shape = replace(ALONE, data=4)
    assert work(shape)["summed"] == work(ALONE)["summed"]
    assert work(replace(shape, engine="deepspeed"))["summed"] == work(ALONE)["summed"] / 4
    assert work(shape)["matched"] == work(ALONE)["matched"] / 4


def test_the_shape_of_a_run():
    config = run(4096, mesh=MeshConfig(data=2, feature=2), batch_tokens=512)
    assert config.aux != "none"
    assert shape_of(config, 48) == StepShape(
        d_in=48, d_sae=4096, tokens=512, k=32, data=2, feature=2, k_aux=32 * AuxiliaryConfig().k_per_k
    )
    assert shape_of(replace(config, aux="none"), 48).k_aux == 0
    other = shape_of(replace(config, allocation="token_choice", engine="deepspeed"), 48)
    assert (other.allocation, other.engine, other.zero_stage) == ("token_choice", "deepspeed", 1)
