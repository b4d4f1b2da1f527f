"""Seconds of collectives: bytes over the slowest link, latency for each step, the fastest way for each message."""

from dataclasses import replace

import pytest

from distsae.planning.exchanges import exchanges
from distsae.planning.links import GLOO, NCCL_NVLINK, Links, WireProtocol, exchange_seconds, one_machine
from distsae.planning.step_shape import StepShape

RING = WireProtocol(tree=False, base=1e-6, inside=2e-6, between=10e-6, share=1.0)
TREE = WireProtocol(tree=True, base=0.0, inside=3e-6, between=20e-6, share=0.5)
LINKS = Links(inside=1e9, between=1e8, node_size=8, protocols=(RING,))


def test_one_rank_and_no_collective_take_nothing():
    assert LINKS.seconds("all_reduce", 1e9, 3, 1, 1) == 0
    assert LINKS.seconds("all_reduce", 0, 0, 8, 1) == 0


def test_a_ring_takes_a_step_for_each_neighbour():
    assert LINKS.seconds("all_gather", 0, 1, 8, 1) == pytest.approx(1e-6 + 7 * 2e-6)
    assert LINKS.seconds("all_reduce", 0, 1, 8, 1) == pytest.approx(1e-6 + 14 * 2e-6)
    # 16 ranks in two machines: 30 steps, 2 of which cross.
    assert LINKS.seconds("all_reduce", 0, 2, 16, 1) == pytest.approx(2 * (1e-6 + 28 * 2e-6 + 2 * 10e-6))


def test_a_group_enters_a_machine_by_the_links_of_all_its_ranks_there():
    assert LINKS.spread(8, 1) == (8, 1)
    assert LINKS.spread(64, 8) == (1, 64)
    assert LINKS.spread(16, 4) == (2, 8)
    assert LINKS.spread(2, 4) == (2, 1)
    links = replace(LINKS, protocols=(replace(RING, base=0, inside=0, between=0),))
    assert links.seconds("all_gather", 1e9, 1, 64, 8) == pytest.approx(10)
    assert links.seconds("all_gather", 1e9, 1, 16, 4) == pytest.approx(5)
    assert links.seconds("all_gather", 1e9, 1, 16, 1) == pytest.approx(1.25)
    assert links.seconds("all_gather", 1e9, 1, 8, 1) == pytest.approx(1)


def test_the_fastest_way_carries_a_message_and_trees_only_sum():
    both = replace(LINKS, protocols=(RING, TREE))
    wide = both.seconds("all_reduce", 0, 1, 512, 1)
    assert wide == pytest.approx(2 * (7 * 3e-6 + 6 * 20e-6))
    assert both.seconds("all_gather", 0, 1, 512, 1) == LINKS.seconds("all_gather", 0, 1, 512, 1)
    assert both.seconds("all_reduce", 1e12, 1, 512, 1) == LINKS.seconds("all_reduce", 1e12, 1, 512, 1)


@pytest.mark.parametrize("protocols", [NCCL_NVLINK, GLOO])
def test_more_bytes_and_more_machines_never_take_less_time(protocols):
    links = Links(inside=2e11, between=4e10, node_size=8, protocols=protocols)
    times = [links.seconds("all_reduce", size, 1, 16, 1) for size in (0, 1e3, 1e6, 1e9)]
    assert times == sorted(times)
    assert links.seconds("all_reduce", 1e6, 1, 16, 8) > links.seconds("all_reduce", 1e6, 1, 16, 1)


def test_a_measured_sum_takes_what_was_measured():
    links = one_machine(1e9, 1e-3, 4, 4)
    assert links.seconds("all_reduce", 5e8, 1, 4, 1) == pytest.approx(1e-3 + 0.5)
    assert one_machine(1e9, 0.0, 4, 2).seconds("all_reduce", 1e9, 9, 4, 1) == pytest.approx(1)


def test_data_ranks_are_as_far_apart_as_there_are_feature_ranks():
    shape = StepShape(d_in=64, d_sae=4096, tokens=1024, k=8, data=4, feature=8)
    found = dict(exchange_seconds(shape, exchanges(shape), LINKS))
    gathered = next(exchange for exchange in exchanges(shape) if exchange.name == "gradients")
    assert found["gradients"] == pytest.approx(LINKS.seconds("all_gather", gathered.received, gathered.calls, 4, 8))
    assert set(found) == {"selection", "reconstruction", "gradients", "firings", "losses", "norm"}
