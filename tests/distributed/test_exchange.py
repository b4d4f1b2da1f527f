"""What ranks tell each other to settle a selection: exact between real processes, and bounded in size."""

from __future__ import annotations

import pytest
import torch

from distsae.allocation.exchange import CandidateExchange
from distsae.allocation.order_statistic import OrderStatistic, nth_largest
from distsae.parallel import GroupCollective, Mesh

from .processes import run_on_mesh

KEYS = {
    "spread": torch.randint(0, 2**31, (40_000,), generator=torch.Generator().manual_seed(0)),
    "narrow": torch.randint(2**30, 2**30 + 50, (40_000,), generator=torch.Generator().manual_seed(1)),
    "equal": torch.full((40_000,), 12345),
    "two values": torch.arange(40_000) % 2 * (2**31 - 1),
    "on the first rank only": torch.arange(40_000).flip(0) * 1000,
    "few": torch.tensor([5, 5, 3, 9]),
}
PLACES = (1, 2, 777, 20_000, 39_999, 40_000)


def _mine(kind: str, mesh: Mesh) -> torch.Tensor:
    keys = KEYS[kind]
    if kind == "on the first rank only":
        return keys if mesh.world.rank == 0 else keys[:0]
    return keys.tensor_split(mesh.world.size)[mesh.world.rank]


def _nth(mesh: Mesh, kind: str) -> tuple[list[OrderStatistic], int, int]:
    world = mesh.world
    assert isinstance(world, GroupCollective)
    found, most_calls, most_bytes = [], 0, 0
    for n in PLACES:
        if n <= len(KEYS[kind]):
            before = world.collectives, world.bytes_received
            found.append(nth_largest(_mine(kind, mesh), n, world, 0, 2**31))
            most_calls = max(most_calls, world.collectives - before[0])
            most_bytes = max(most_bytes, world.bytes_received - before[1])
    return found, most_calls, most_bytes


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("shape", [(1, 2), (1, 3), (2, 2)])
def test_the_nth_largest_of_all_ranks_is_that_of_a_sort(shape, kind):
    ordered = KEYS[kind].sort(descending=True).values
    expected = []
    for n in PLACES:
        if n <= len(ordered):
            value = int(ordered[n - 1])
            expected.append(OrderStatistic(value, n - int((ordered > value).sum()), int((ordered == value).sum())))
    for found, calls, received in run_on_mesh(_nth, shape, kind):
        assert found == expected
        assert calls <= 4
        assert received < 4 * 2 * 4 * 4100, "no more than a few histograms, however many keys there are"


def _exchange(mesh: Mesh) -> list[tuple[list[list[int]], int]]:
    world = mesh.world
    assert isinstance(world, GroupCollective)
    exchange, found = CandidateExchange(), []
    for step in range(6):
        length = (10, 12, 11, 500, 490, 0)[step] * (1 + world.rank)
        before = world.collectives
        bodies = exchange.gather(world, torch.arange(length, dtype=torch.int32) + 1000 * world.rank)
        found.append(([body.tolist() for body in bodies], world.collectives - before))
    return found


def test_parts_of_unequal_length_take_one_collective_while_their_length_is_steady():
    for answers in run_on_mesh(_exchange, (1, 3)):
        for step, (bodies, _) in enumerate(answers):
            length = (10, 12, 11, 500, 490, 0)[step]
            assert bodies == [list(range(1000 * rank, 1000 * rank + length * (1 + rank))) for rank in range(3)]
        assert [calls for _, calls in answers] == [2, 1, 1, 2, 1, 1]
