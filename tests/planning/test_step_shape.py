"""The formulas by hand; `tests/benchmarks/test_scaling.py` compares the bytes with those of real ranks."""

from dataclasses import replace

from distsae.planning.step_shape import StepShape, all_reduce_bytes, bytes_received, work

ALONE = StepShape(d_in=8, d_sae=100, tokens=64, k=4)


def test_a_process_alone_receives_nothing():
    assert set(bytes_received(ALONE).values()) == {0}


def test_the_first_rank_of_a_mesh_has_its_share():
    shape = replace(ALONE, data=2, feature=3)
    assert (shape.ranks, shape.own_tokens, shape.own_features) == (6, 32, 34)
    assert shape.own_matches == 4 * 32 / 3
    assert work(shape)["product"] == 32 * 34 * 8
    assert work(shape)["weights"] == 2 * 34 * 8
    assert bytes_received(shape)["reconstruction"] == 2 * 2 / 3 * 32 * 8 * 4


def test_the_auxiliary_loss_is_a_second_reconstruction():
    shape = replace(ALONE, feature=2, k_aux=4)
    plain = bytes_received(replace(shape, k_aux=0))
    assert bytes_received(shape)["reconstruction"] == 2 * plain["reconstruction"]
    assert work(shape)["matched"] == 2 * work(replace(shape, k_aux=0))["matched"]


def test_a_ring_sends_each_byte_nearly_twice():
    assert all_reduce_bytes(100, 1) == 0
    assert all_reduce_bytes(100, 4) == 150
