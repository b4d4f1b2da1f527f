"""A step on a batch in which rows are left out is the step on the other rows alone, on every mesh."""

from __future__ import annotations

import pytest
import torch

from distsae.allocation import FeatureSelector, Matches, MutualSelector
from distsae.parallel import Mesh, MeshConfig, build_mesh
from distsae.training import Selectors, forward_backward
from distsae.training.step import NONE_LEFT_OUT, left_out_of
from tests.distributed.processes import run_on_mesh
from tests.training.dense_step import ALPHA, K_AUX, dense_step
from tests.training.left_out_rows import SHAPES, kept, share_of
from tests.training.samples import (
    D_SAE,
    RULES,
    TOKENS,
    activations,
    credit,
    dense_gradients,
    mean_and_variance,
    moved_shard_on,
    selector_on,
)

MEMBERS = torch.arange(D_SAE) % 3 == 0


def _step(mesh: Mesh, rule: str):
    shard = moved_shard_on(mesh)
    features = mesh.features(D_SAE)
    x, rows, first = share_of(mesh)
    selector = selector_on(mesh, rule)
    if isinstance(selector, FeatureSelector):
        selector.grant(credit().pay(TOKENS)[features.start : features.stop])
    auxiliary = MutualSelector(K_AUX, MEMBERS[features.start : features.stop])
    (left_out,) = left_out_of([rows], mesh)
    mean, variance = mean_and_variance()
    selectors = Selectors(selector, auxiliary)
    outcome = forward_backward(shard, x, mesh, selectors, mean, variance, ALPHA, left_out=left_out)
    gradients = dense_gradients(outcome.gradients.gathered(mesh.data), shard, mesh)
    gradients = {n: t if n == "b_dec" else torch.cat(mesh.feature.gather(t)) for n, t in gradients.items()}
    found = outcome.matches
    matches = Matches(found.token + first, found.feature + features.start, found.score)
    return matches, outcome, gradients, selector.shortfall


@pytest.mark.parametrize("rule", RULES)
def test_the_step_is_that_of_the_other_rows(rule):
    shard = moved_shard_on(build_mesh(MeshConfig(), 1, "cpu"))
    expected = dense_step(shard, activations(0), rule, MEMBERS)
    energy = (activations(0) - mean_and_variance()[0]).square().sum().item()
    for shape in SHAPES:
        ranks = run_on_mesh(_step, shape, rule)
        together = Matches.joined([rank[0] for rank in ranks]).by_token()
        assert torch.equal(together.token, kept()[expected.matches.token]), shape
        assert torch.equal(together.feature, expected.matches.feature), shape
        for _, outcome, gradients, shortfall in ranks:
            assert outcome.tokens == TOKENS
            assert outcome.loss == pytest.approx(expected.loss, rel=1e-12), shape
            assert outcome.aux_loss == pytest.approx(expected.aux_loss, rel=1e-12), shape
            assert outcome.energy == pytest.approx(energy, rel=1e-12), shape
            assert shortfall == 0
            for name, tensor in expected.gradients.items():
                torch.testing.assert_close(gradients[name], tensor, rtol=1e-10, atol=1e-13, msg=f"{name}, {shape}")


def test_a_batch_of_left_out_rows_alone_changes_nothing():
    mesh = build_mesh(MeshConfig(), 1, "cpu")
    shard = moved_shard_on(mesh)
    (left_out,) = left_out_of([torch.arange(TOKENS)], mesh)
    selectors = Selectors(selector_on(mesh, "mutual_choice"))
    outcome = forward_backward(shard, activations(0), mesh, selectors, *mean_and_variance(), ALPHA, left_out=left_out)
    assert (outcome.tokens, len(outcome.matches), outcome.loss, outcome.energy) == (0, 0, 0.0, 0.0)
    assert all(not tensor.any() for tensor in dense_gradients(outcome.gradients, shard, mesh).values())


def test_rows_are_counted_over_all_data_ranks_and_set_to_zero():
    mesh = build_mesh(MeshConfig(), 1, "cpu")
    some, none = left_out_of([torch.tensor([1, 3]), torch.tensor([], dtype=torch.long)], mesh)
    assert (some.of_all, none.of_all, none.rows) == (2, 0, None)
    vectors = torch.ones(5, 2)
    assert some.zeroed(vectors) is vectors
    assert vectors[:, 0].tolist() == [1, 0, 1, 0, 1]
    assert torch.equal(none.zeroed(vectors.clone()), vectors)
    assert left_out_of([None, None], mesh) == [NONE_LEFT_OUT, NONE_LEFT_OUT]
