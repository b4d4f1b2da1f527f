"""The exchange between ranks that resolves a selection: exact on real processes, with bounded traffic."""

from __future__ import annotations

import pytest
import torch

from distsae.allocation import FeatureSelector, MutualSelector, TokenSelector, select
from distsae.allocation.exchange import CandidateExchange
from distsae.allocation.order_statistic import OrderStatistic, nth_largest
from distsae.model import training_selector
from distsae.parallel import GroupCollective, Mesh
from tests.allocation.samples import chunks
from tests.distributed.processes import run_on_mesh

KEYS = {
    "spread": torch.randint(0, 2**31, (40_000,), generator=torch.Generator().manual_seed(0)),
    "narrow": torch.randint(2**30, 2**30 + 50, (40_000,), generator=torch.Generator().manual_seed(1)),
    "equal": torch.full((40_000,), 12345),
    "two values": torch.arange(40_000) % 2 * (2**31 - 1),
    "on the first rank only": torch.arange(40_000).flip(0) * 1000,
    "few": torch.tensor([5, 5, 3, 9]),
}
POSITIONS = (1, 2, 777, 20_000, 39_999, 40_000)


def _local_keys(kind: str, mesh: Mesh) -> torch.Tensor:
    keys = KEYS[kind]
    if kind == "on the first rank only":
        return keys if mesh.world.rank == 0 else keys[:0]
    return keys.tensor_split(mesh.world.size)[mesh.world.rank]


def _nth(mesh: Mesh, kind: str) -> tuple[list[OrderStatistic], int, int]:
    world = mesh.world
    assert isinstance(world, GroupCollective)
    found = []
    most_calls = 0
    most_bytes = 0
    for n in POSITIONS:
        if n <= len(KEYS[kind]):
            before = world.collectives, world.bytes_received
            found.append(nth_largest(_local_keys(kind, mesh), n, world, 0, 2**31))
            most_calls = max(most_calls, world.collectives - before[0])
            most_bytes = max(most_bytes, world.bytes_received - before[1])
    return found, most_calls, most_bytes


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("shape", [(1, 2), (1, 3), (2, 2)])
def test_the_nth_largest_of_all_ranks_equals_that_of_a_sort(shape, kind):
    ordered = KEYS[kind].sort(descending=True).values
    expected = []
    for n in POSITIONS:
        if n <= len(ordered):
            value = int(ordered[n - 1])
            expected.append(OrderStatistic(value, n - int((ordered > value).sum()), int((ordered == value).sum())))
    for found, calls, received in run_on_mesh(_nth, shape, kind):
        assert found == expected
        assert calls <= 4
        assert received < 4 * 2 * 8 * 4100, "traffic of a few histograms, for any number of keys"


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


def _steady(mesh: Mesh, rule: str) -> list[tuple[int, int]]:
    """Returns the number of collectives and the bytes received for each of six batches."""
    tokens = 512
    features = 512
    k = 16
    selector = {"mutual_choice": lambda: MutualSelector(k), "token_choice": lambda: TokenSelector(k)}[rule]()
    local, placement = mesh.features(features), mesh.placement(features, tokens)
    groups = [group for group in (mesh.feature, mesh.world) if isinstance(group, GroupCollective)]
    spent = []
    for step in range(6):
        batch = torch.randn(tokens, features, generator=torch.Generator().manual_seed(step))
        batch = batch[:, local.start : local.stop]
        before = [(group.collectives, group.bytes_received) for group in groups]
        select([selector], lambda batch=batch: chunks(batch, 64), placement, tokens)
        after = [(group.collectives, group.bytes_received) for group in groups]
        spent.append(_difference(before, after))
    return spent


def _difference(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> tuple[int, int]:
    pairs = list(zip(before, after, strict=True))
    return sum(b[0] - a[0] for a, b in pairs), sum(b[1] - a[1] for a, b in pairs)


def _spent(mesh: Mesh, rule: str, steps: range, forecast: dict | None) -> tuple[list[tuple[int, int]], list, dict]:
    """Selects from some batches, starting with a forecast; returns collectives and bytes, matches, and the forecast."""
    tokens = 64 // mesh.data.size
    features = 96
    k = 4
    local, placement = mesh.features(features), mesh.placement(features, tokens)
    selector = training_selector(rule, k, len(local))
    if forecast is not None:
        selector.restore_forecast(forecast)
    groups = [group for group in (mesh.data, mesh.feature, mesh.world) if isinstance(group, GroupCollective)]
    spent, selected = [], []
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        batch = torch.randn(64, features, generator=generator) * 2.0 ** -(step % 3)
        batch = batch[placement.first_token : placement.first_token + tokens, local.start : local.stop]
        if isinstance(selector, FeatureSelector):
            selector.grant(torch.full((len(local),), 1 + step))
        before = [(group.collectives, group.bytes_received) for group in groups]
        (found,) = select([selector], lambda batch=batch: chunks(batch, 16), placement, tokens)
        after = [(group.collectives, group.bytes_received) for group in groups]
        spent.append(_difference(before, after))
        selected.append((found.token + placement.first_token, found.feature + local.start, found.score))
    return spent, selected, selector.forecast()


def _together(ranks: list, step: int) -> set[tuple[int, int, float]]:
    return {
        match for _, selected, _ in ranks for match in zip(*(part.tolist() for part in selected[step]), strict=True)
    }


@pytest.mark.parametrize("rule", ["token_choice", "mutual_choice", "feature_choice"])
def test_a_restored_forecast_saves_traffic_and_changes_no_selection(rule):
    """On the same mesh, traffic is as without a stop; other meshes, with the first rank's forecast, select the same."""
    straight = run_on_mesh(_spent, (2, 2), rule, range(8), None)
    first = run_on_mesh(_spent, (2, 2), rule, range(5), None)
    saved = first[0][2]
    resumed = run_on_mesh(_spent, (2, 2), rule, range(5, 8), saved)
    without_forecast = run_on_mesh(_spent, (2, 2), rule, range(5, 8), None)
    assert resumed[0][0] == straight[0][0][5:]
    assert resumed[0][2] == straight[0][2]
    assert without_forecast[0][0] != resumed[0][0], "the forecast made no difference"
    for shape in ((1, 1), (2, 1), (1, 2), (1, 4), (1, 3), (4, 1)):
        ranks = run_on_mesh(_spent, shape, rule, range(5, 8), saved)
        for step in range(3):
            assert _together(ranks, step) == _together(straight, 5 + step), shape


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_a_steady_step_of_mutual_choice_takes_two_collectives(ranks):
    for spent in run_on_mesh(_steady, (1, ranks), "mutual_choice"):
        assert all(calls <= 3 for calls, _ in spent[1:])
        assert sorted(calls for calls, _ in spent[1:])[2] == 2
        assert all(received < 40_000 for _, received in spent[1:])


def _wide(mesh: Mesh) -> list[tuple[int, float]]:
    """Returns, for batches of 131,072 matches, the collectives, and the bytes relative to those of an all-gather."""
    tokens = 4096
    features = 256
    k = 32
    selector = MutualSelector(k)
    local = mesh.features(features)
    placement = mesh.placement(features, tokens)
    world, spent = mesh.world, []
    assert isinstance(world, GroupCollective)
    for step in range(4):
        batch = torch.randn(tokens, features, generator=torch.Generator().manual_seed(step))
        batch = batch[:, local.start : local.stop]
        before = world.collectives, world.bytes_received
        select([selector], lambda batch=batch: chunks(batch, 64), placement, tokens)
        whole = (world.size - 1) * k * tokens * 4
        spent.append((world.collectives - before[0], (world.bytes_received - before[1]) / whole))
    return spent


@pytest.mark.parametrize("ranks", [2, 4])
def test_mutual_choice_sends_a_twentieth_of_an_all_gather_of_largest_scores(ranks):
    for spent in run_on_mesh(_wide, (1, ranks)):
        assert all(calls <= 3 and share <= 0.05 for calls, share in spent[1:]), spent


@pytest.mark.parametrize("ranks", [2, 4])
def test_token_choice_sends_less_than_an_all_gather_of_largest_scores(ranks):
    whole = (ranks - 1) * 512 * 16 * 4  # bytes of the k largest scores of each token, from each other rank
    for spent in run_on_mesh(_steady, (1, ranks), "token_choice"):
        assert all(calls <= 4 and received < (1.0 if ranks == 2 else 0.7) * whole for calls, received in spent[1:])
