"""The cost of selections is counted in full, and counting changes no selection."""

from __future__ import annotations

import pytest
import torch

from distsae.allocation import FeatureSelector, MutualSelector
from distsae.parallel import GroupCollective
from distsae.training.step import SelectionCost, Selectors, watched
from tests.distributed.processes import run_on_mesh
from tests.training.samples import D_SAE, RULES, TOKENS, K, activations, credit, moved_shard_on, selector_on


def _select(mesh, rule, watch):
    """Selects from five batches, the last with far smaller scores; returns costs, matches and the groups' counts."""
    features, share = mesh.features(D_SAE), TOKENS // mesh.data.size
    shard, selector = moved_shard_on(mesh), selector_on(mesh, rule)
    selectors = Selectors(selector, MutualSelector(K, torch.arange(len(features)) % 2 == 0))
    costs, found = [], []
    groups = [g for g in (mesh.data, mesh.feature, mesh.world) if isinstance(g, GroupCollective)]
    before = sum(group.collectives for group in groups), sum(group.bytes_received for group in groups)
    quotas = credit()
    for scale in (1.0, 1.1, 1.2, 1.0, 0.01):
        if isinstance(selector, FeatureSelector):
            selector.grant(quotas.pay(TOKENS)[features.start : features.stop])
        centred = scale * activations(0)[mesh.data.rank * share : (mesh.data.rank + 1) * share]
        cost = SelectionCost()
        chosen = watched(selectors, mesh, cost) if watch else selectors
        selected = chosen.select(
            lambda centred=centred: shard.encode_chunks(centred), mesh.placement(D_SAE, share), share
        )
        found += [selected.main, selected.auxiliary]
        costs.append((cost.passes, cost.collectives, cost.bytes_received))
    spent = [sum(getattr(group, name) for group in groups) for name in ("collectives", "bytes_received")]
    return costs, [(m.token, m.feature, m.score) for m in found], [spent[0] - before[0], spent[1] - before[1]]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 2)], ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_all_traffic_is_counted_and_no_selection_changes(shape, rule):
    plain = run_on_mesh(_select, shape, rule, False)
    for (costs, found, spent), (uncounted, expected, _) in zip(
        run_on_mesh(_select, shape, rule, True), plain, strict=True
    ):
        assert uncounted == [(0, 0, 0)] * 5
        for matches, expected_matches in zip(found, expected, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(matches, expected_matches, strict=True))
        assert [passes for passes, *_ in costs][:3] == [1, 1, 1]
        assert costs[4][0] == 2  # scores are a hundred times smaller: the auxiliary Mutual Choice needs a second pass
        assert [sum(cost[1] for cost in costs), sum(cost[2] for cost in costs)] == spent
        assert (spent[0] > 0) == (spent[1] > 0) == (shape != (1, 1))
